"""The options of Tip-Adapter-F; nothing heavy is imported here."""

from __future__ import annotations

from vlmprompt_adapters.config.tip_adapter import TipAdapterConfig


class TipAdapterFConfig(TipAdapterConfig):
    """Options of Tip-Adapter-F: those of Tip-Adapter. Its keys are trained at `alpha` and `beta`."""
