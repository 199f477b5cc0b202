"""DUAL-PT (AAAI 2024) as a vlmprompt plugin; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register


@hookimpl
def register_methods(register: Register) -> None:
    """One method; CoDUAL-PT is its option `conditional`."""
    register(
        "dual_pt",
        target="vlmprompt_dual_pt.dual_pt:DualPT",
        config="vlmprompt_dual_pt.config:DualPTConfig",
        summary="several prompts, matched with local image features and with class descriptions",
        overrides="vlmprompt_dual_pt:overrides.toml",
    )
