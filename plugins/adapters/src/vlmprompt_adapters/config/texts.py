"""The option that methods on hand-written text share."""

from __future__ import annotations

from typing import ClassVar

from vlmprompt.api import Field, MethodConfig, TextTemplate


class TextsConfig(MethodConfig):
    """Options of a method that writes class names into fixed texts."""

    template_option: ClassVar[str | None] = "templates"
    templates: TextTemplate | None = Field(
        None,
        description="texts with one {} each for the class name; none: the data set's own; code: seven or eight for "
        "ImageNet, which the shipped overrides set. Set by --templates FILE",
    )


class RawTextsConfig(TextsConfig):
    """Options of a method that starts from text features of their own lengths."""

    keep_underscores: bool = Field(
        True, description="class names with their underscores, as in the official code; false: spaces in their place"
    )
