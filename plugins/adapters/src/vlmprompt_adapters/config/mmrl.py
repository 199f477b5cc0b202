"""Options of MMRL."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from vlmprompt.api import Field, MethodConfig, TextTemplate
from vlmprompt_adapters.config.template import one


class MMRLConfig(MethodConfig):
    """Options of MMRL."""

    layers: tuple[int, ...] | None = Field(
        None,
        description="layers with representation tokens, counted from 1, one behind the other; none: 6 to 12 (code), or "
        "those from the middle on of a shallower tower",
    )
    n_rep: int = Field(5, ge=1, description="representation tokens; code: 5")
    rep_dim: int = Field(
        512, ge=1, description="width of the space that both towers share; code: 512, and 2048 for EuroSAT"
    )
    alpha: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the class feature in the loss and in predictions, beside the representation feature; "
        "code: 0.7",
    )
    reg_weight: float = Field(
        0.5,
        ge=0,
        description="of the distances to CLIP's own features, image and text each; code: one for each benchmark, which "
        "the shipped overrides set, 0.5 or 1 elsewhere",
    )
    template_option: ClassVar[str | None] = "template"
    template: TextTemplate | None = Field(
        None,
        description="text with one {} for the class name; none: the data set's own (code), else 'a photo of a {}.'. "
        "Set by --templates FILE of one line",
    )

    _one_template = field_validator("template")(one)

    @field_validator("layers")
    @classmethod
    def _one_behind_the_other(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (not layers or layers != tuple(range(layers[0], layers[0] + len(layers)))):
            raise ValueError("must be layers one behind the other, such as [6, 7, 8]")
        if layers is not None and layers[0] < 1:
            raise ValueError("are counted from 1")
        return layers
