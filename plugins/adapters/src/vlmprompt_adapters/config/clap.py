"""The options of CLAP; nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

from vlmprompt.api import Field
from vlmprompt_adapters.config.texts import RawTextsConfig


class CLAPConfig(RawTextsConfig):
    """Options of CLAP."""

    multipliers: Literal["default", "balanced", "corrected", "constant", "adaptive"] = Field(
        "default",
        description="how firmly each class is held near its text: default, by zero-shot's probability of the true "
        "class (paper); balanced, 1; corrected, default scaled to mean 1; constant, the mean of default for all; "
        "adaptive, default, raised after each epoch by how far the prototypes have moved (code: variants)",
    )
    epochs: int = Field(300, ge=1, le=100_000, description="passes over as many rows as images; code: 300")
    lr: float = Field(0.1, gt=0, description="peak learning rate of SGD with momentum 0.9; code: 0.1")
    views: int = Field(20, ge=1, description="random views of each image that are recorded and drawn from; code: 20")
