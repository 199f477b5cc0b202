"""The options of methods: what they are called, which values they take, what each does.

Apart from the methods themselves, so that a misspelt option is refused before torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from vlmprompt.config.limits import MOST_SIZE
from vlmprompt.config.models import ClassPosition
from vlmprompt.config.templates import TextTemplate
from vlmprompt.describe.lines import WHICH_HAS

DEFAULT_TEMPLATE = "a photo of a {}."
# Places in the template of a description.
CLASS, PHRASE = "{class}", "{phrase}"


class MethodConfig(BaseModel):
    """Base of every method's options: unknown keys are errors, values are checked.

    Each field carries `description=` with its unit and source (paper or official code); presets are
    class-level data: name -> option values. `template_option` names the option in which the method takes the
    hand-written texts of a run (`--templates`), of type `TextTemplate`; None for a method that writes none.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True, allow_inf_nan=False)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    template_option: ClassVar[str | None] = None

    keep_underscores: bool = Field(
        False,
        description="class names with their underscores, as in GalLoP's code; false: spaces in their place (CoOp). "
        "Set by --protocol",
    )

    @field_validator("*")
    @classmethod
    def _of_some_size(cls, value: Any, info: ValidationInfo) -> Any:
        """A slip of the finger in a number of tokens or prompts is an error here, and no shortage of memory later."""
        own = cls.model_fields[info.field_name or ""].metadata
        bounded = any(hasattr(bound, "le") or hasattr(bound, "lt") for bound in own)
        if type(value) is int and value > MOST_SIZE and not bounded:
            raise ValueError(f"should be less than or equal to {MOST_SIZE}")
        return value


class ContextConfig(MethodConfig):
    """The options that decide a context's start; a method says their defaults and sources."""

    n_ctx: int = Field(ge=1)
    ctx_init: str | None


class CoOpConfig(ContextConfig):
    """Options of CoOp."""

    n_ctx: int = Field(16, ge=1, description="context tokens; paper: 16. With ctx_init, its words count")
    ctx_init: str | None = Field(
        None,
        description='words whose embeddings are the initial context, such as "a photo of a"; '
        "none: N(0, 0.02^2) (paper)",
    )
    class_position: ClassPosition = Field(
        "end", description="place of the class name: behind, amid, or before the context; paper: end"
    )
    class_specific: bool = Field(
        False,
        description="a context for every class, which cannot serve new classes; paper: off and on",
    )


class ZeroShotConfig(MethodConfig):
    """Options of the zero-shot classifier."""

    template_option: ClassVar[str | None] = "template"
    template: TextTemplate | None = Field(
        None,
        description="text with one {} for the class name, or a list of them, averaged as CLIP does; none: the data "
        f"set's own, else {DEFAULT_TEMPLATE!r}. Set by --templates FILE",
    )
    ensemble: Literal["none", "clip7", "clip7+template"] = Field(
        "none",
        description="mean over templates: none (the template alone), CLIP's seven, or both together "
        "(CoOp code: clip7 on ImageNet, clip7+template elsewhere)",
    )

    @model_validator(mode="after")
    def _template_is_used(self) -> ZeroShotConfig:
        if self.ensemble == "clip7" and self.template is not None:
            raise ValueError("ensemble clip7 leaves the template out; clip7+template takes both")
        return self


class DescribedConfig(MethodConfig):
    """Options of zero-shot classification by descriptions."""

    template: str = Field(
        WHICH_HAS,
        description=f"text around a phrase, with {PHRASE} and, where it is to stand, {CLASS}; Menon & Vondrick's "
        "words. Descriptions that are whole sentences are taken as they are",
    )
    average: Literal["features", "cosines"] = Field(
        "features",
        description="over a class's descriptions: the mean of unit features, normalised again (CLIP's ensembling); "
        "or the mean of the cosines, so that differing descriptions weigh less (Menon & Vondrick)",
    )

    @field_validator("template")
    @classmethod
    def _has_place(cls, template: str) -> str:
        if template.count(PHRASE) != 1:
            raise ValueError(f"must hold exactly one {PHRASE}")
        return template


class LinearProbeConfig(MethodConfig):
    """Options of the linear probe."""

    c_without_val: float = Field(
        0.316,
        gt=0,
        description="inverse strength of the L2 term without validation images; CLIP's own example: 0.316",
    )
    max_iter: int = Field(1000, ge=1, description="most Newton steps of a fit; CLIP paper: 1000 of L-BFGS")
