"""The options of Bloom, with the points that the paper leaves open."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vlmprompt.api import MethodConfig

Fusion = Literal["gate", "add", "concat", "routing"]
TEMPLATE = "a photo of a"
STD = 0.02


class BloomConfig(MethodConfig):
    """Options of Bloom."""

    n_ctx: int = Field(2, ge=1, description="prompt tokens a layer and tower; paper: 2, cross-dataset 1")
    depth: int | None = Field(
        None,
        ge=1,
        description="layers with prompts, from the first; null: 12, or all of a shallower tower; "
        "paper: 12, cross-dataset 2",
    )
    interval: tuple[int, int] | None = Field(
        None,
        description="layers with prompts as [a, b), counted from 1, in place of depth; "
        "paper's ablation: [1, 9) to [4, 12)",
    )
    d_m: int = Field(64, ge=1, description="width of the bottlenecks between the towers; paper: 64")
    fusion: Fusion = Field(
        "gate",
        description="how own and cross prompts join: learned gate, sum, concatenation of tokens, or routing "
        "to one of them (straight-through Gumbel softmax); paper: gate",
    )
    direction: Literal["both", "v2l", "l2v"] = Field(
        "both",
        description="both ways, only from the image to the text tower (v2l), or only back (l2v); paper: both",
    )
    temperature: float = Field(1.0, gt=0, description="of routing's Gumbel softmax; paper: not stated")
    visual_std: float = Field(
        STD,
        gt=0,
        description="standard deviation of initial visual prompts; MaPLe code: 0.02 (paper: N(0, 0.2), "
        "without saying whether that is a variance)",
    )
    template_all: bool = Field(
        False,
        description=f"initial text prompts of every layer from {TEMPLATE!r} (paper, literally); "
        f"off: of the first, deeper ones N(0, {STD}^2) (MaPLe code)",
    )
    gate_init: Literal["zeros", "uniform"] = Field(
        "zeros",
        description="initial gates: zeros (equal shares) or uniform on [0, 1); paper: 'uniform distribution'",
    )
    bias: bool = Field(True, description="biases in the bottlenecks; paper: not stated, its count has none")
    after_ln_pre: bool = Field(
        False,
        description="visual prompts of the first layer enter behind ln_pre (paper, eq. 11); "
        "off: before it (MaPLe code)",
    )
    drop_after: bool = Field(
        False,
        description="visual prompts are removed behind the last prompted layer; off: they flow on (MaPLe code)",
    )

    @model_validator(mode="after")
    def _one_range(self) -> BloomConfig:
        if self.interval is not None:
            if self.depth is not None:
                raise ValueError("depth and interval both say which layers have prompts: give one of them")
            if not 1 <= self.interval[0] < self.interval[1]:
                raise ValueError(f"interval {list(self.interval)} must be [a, b) with 1 <= a < b")
        return self
