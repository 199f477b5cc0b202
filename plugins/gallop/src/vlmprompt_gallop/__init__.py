"""GalLoP (Lafon et al., ECCV 2024) as a vlmprompt plugin; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register


@hookimpl
def register_methods(register: Register) -> None:
    """One method."""
    register(
        "gallop",
        target="vlmprompt_gallop.gallop:GalLoP",
        config="vlmprompt_gallop.config:GalLoPConfig",
        summary="global prompts with dropout, local prompts on the best patches at several scales",
        overrides="vlmprompt_gallop:overrides.toml",
    )
