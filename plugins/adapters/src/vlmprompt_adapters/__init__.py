"""Adapters, low-rank updates, learned tokens and test-time methods; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register

METHODS: tuple[tuple[str, str, str], ...] = ()


@hookimpl
def register_methods(register: Register) -> None:
    """One module, one module of options, one schedule file each."""
    for name, cls, summary in METHODS:
        target = f"vlmprompt_adapters.{name}:{cls}"
        schedule = f"vlmprompt_adapters:schedules/{name}.toml"
        config = f"vlmprompt_adapters.config.{name}:{cls}Config"
        register(name, target=target, config=config, summary=summary, overrides=schedule)


@hookimpl
def register_scores(register: Register) -> None:
    """Scores that tell images of known classes from all others."""
    register(
        "neglabel",
        target="vlmprompt_adapters.neglabel:NegLabel",
        config="vlmprompt_adapters.config.neglabel:NegLabelConfig",
        summary="the mass of the classes among them and many words that are none of them; no training",
    )
