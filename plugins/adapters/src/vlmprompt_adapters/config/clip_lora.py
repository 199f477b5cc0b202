"""The options of CLIP-LoRA; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from vlmprompt.api import Field, MethodConfig, TextTemplate

Part = Literal["q", "k", "v", "o"]
Position = Literal["all", "bottom", "mid", "up", "half-bottom", "half-up", "top3"]


class CLIPLoRAConfig(MethodConfig):
    """Options of CLIP-LoRA."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "clip-lora": {"scaling": "sqrt"},
        "lora": {"scaling": "linear"},
    }
    template_option: ClassVar[str | None] = "template"

    r: int = Field(2, ge=1, description="rank of each update; paper: 2")
    alpha: float = Field(1.0, gt=0, description="the update counts alpha / sqrt(r) or alpha / r times; code: 1")
    scaling: Literal["sqrt", "linear"] = Field(
        "sqrt", description="of the update: sqrt, alpha / sqrt(r) (code); linear, alpha / r (LoRA; preset lora)"
    )
    encoder: Literal["both", "text", "vision"] = Field("both", description="towers that are updated; paper: both")
    params: tuple[Part, ...] = Field(
        ("q", "k", "v"),
        min_length=1,
        description="maps of attention that are updated: queries, keys, values, output; paper: q, k, v",
    )
    position: Position | tuple[int, ...] = Field(
        "all",
        description="blocks that are updated: all (paper); bottom, mid, up: a third of the tower; half-bottom, "
        "half-up; top3: the last three; or a list of numbers, from 0. They are shares of a tower of any depth; the "
        "code has numbers for 12 blocks",
    )
    dropout: float = Field(
        0.25, ge=0, lt=1, description="share of a map's input that the update does not see in training; paper: 0.25"
    )
    template: TextTemplate | None = Field(
        None,
        description="text with one {} for the class name; none: the data set's own; code: 'a photo of a {}.' for every "
        "data set, which the shipped overrides set. Set by --templates FILE",
    )

    @field_validator("params")
    @classmethod
    def _each_once(cls, params: tuple[Part, ...]) -> tuple[Part, ...]:
        if len(set(params)) < len(params):
            raise ValueError("must name each map once")
        return params

    @field_validator("position")
    @classmethod
    def _some_blocks(cls, position: Position | tuple[int, ...]) -> Position | tuple[int, ...]:
        if not isinstance(position, str) and (not position or min(position) < 0 or len({*position}) < len(position)):
            raise ValueError("must name at least one block, each once, from 0")
        return position

    @field_validator("template")
    @classmethod
    def _one(cls, template: Any) -> Any:
        if template is not None and not isinstance(template, str):
            if len(template) > 1:
                raise ValueError("must be one template: each is trained through, not averaged beforehand")
            return template[0]
        return template
