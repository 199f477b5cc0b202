"""The options of LP++; nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

from vlmprompt.api import Field
from vlmprompt_adapters.config.texts import TextsConfig


class LPPlusPlusConfig(TextsConfig):
    """Options of LP++."""

    epochs: int = Field(300, ge=1, le=100_000, description="steps on all training images together; code: 300")
    alpha_every: int = Field(10, ge=1, description="epochs between two steps of the text's weights; code: 10")
    alpha_factor: float = Field(
        250.0,
        gt=0,
        description="the text's weights start at this times the mean cosine of the true class; code: 250",
    )
    search: Literal["none", "val"] = Field(
        "none",
        description="which epoch's state is kept: none, the last one's; val, the best one's on the validation images, "
        "of equal ones the latest (code)",
    )
