"""The options of TaskRes; nothing heavy is imported here."""

from __future__ import annotations

from vlmprompt.api import Field
from vlmprompt_adapters.config.texts import RawTextsConfig


class TaskResConfig(RawTextsConfig):
    """Options of TaskRes."""

    alpha: float = Field(
        0.5, gt=0, description="factor of the residuals; code: 0.5, and 1 for Flowers102 by the shipped overrides"
    )
