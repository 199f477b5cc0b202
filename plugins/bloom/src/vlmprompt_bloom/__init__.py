"""Bloom (submitted to ACM MM 2024) as a vlmprompt plugin; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register


@hookimpl
def register_methods(register: Register) -> None:
    """One method."""
    register(
        "bloom",
        target="vlmprompt_bloom.bloom:Bloom",
        config="vlmprompt_bloom.config:BloomConfig",
        summary="prompts in every layer of both towers, fused both ways through learned gates",
        overrides="vlmprompt_bloom:overrides.toml",
    )
