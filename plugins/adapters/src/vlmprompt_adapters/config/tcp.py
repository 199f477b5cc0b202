"""Options of TCP."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from vlmprompt.api import Field, MethodConfig, TextTemplate
from vlmprompt_adapters.config.template import one


class TCPConfig(MethodConfig):
    """Options of TCP."""

    n_ctx: int = Field(4, ge=1, description="context tokens that all classes share; code: 4")
    n_class_tokens: int = Field(
        4, ge=1, description="tokens made of each class's text feature; at most those before the class name; code: 4"
    )
    layer: int | None = Field(
        None,
        ge=1,
        description="text layer, counted from 0, whose input they overwrite; none: 8 (code), or two thirds of the "
        "layers of a tower with fewer than 9",
    )
    weight: float = Field(8.0, ge=0, description="of the distance to the hand-written text; code: 8")
    template: TextTemplate | None = Field(
        None,
        description="text of the prompt with one {} for the class name; its first words, as many as there are context "
        "tokens, give way to these (X X X X, as the code writes it); none: the data set's own; code: one for each "
        "benchmark, which the shipped overrides set",
    )
    template_option: ClassVar[str | None] = "teacher_template"
    teacher_template: TextTemplate | None = Field(
        None,
        description="hand-written text whose features make the class tokens and hold the prompt near; none: the data "
        "set's own; code: one for each benchmark, which the shipped overrides set. Set by --templates FILE",
    )

    _one_template = field_validator("template")(one)
