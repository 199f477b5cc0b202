"""SOT-GLP as a plugin of vlmprompt; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register


@hookimpl
def register_methods(register: Register) -> None:
    """One method with its options and its schedule."""
    register(
        "sot_glp",
        target="vlmprompt_sot_glp.method:SOTGLP",
        config="vlmprompt_sot_glp.config:SOTGLPConfig",
        summary="global prompts, and local ones of each class matched with patches by sparse transport",
        overrides="vlmprompt_sot_glp:schedule.toml",
    )
