"""The options of CLIP-Adapter; nothing heavy is imported here."""

from __future__ import annotations

from vlmprompt.api import Field
from vlmprompt_adapters.config.texts import TextsConfig


class CLIPAdapterConfig(TextsConfig):
    """Options of CLIP-Adapter."""

    ratio: float = Field(0.2, ge=0, le=1, description="share of the adapted feature in the mixture; code: 0.2")
    reduction: int = Field(4, ge=1, description="the bottleneck has d / reduction units; code: 4")
