"""Suites by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from vlmprompt.errors import UsageError
from vlmprompt.evaluation.contract import Suite
from vlmprompt.plugins import host


def load_suites(names: Sequence[str]) -> list[Suite]:
    """Suites by name or `<name>:<argument>`, each once.

    Raises:
        UsageError: no such suite, or it takes no such argument.
        PluginError: its plugin failed.
    """
    return [_load_suite(name) for name in dict.fromkeys(names)]


def _load_suite(spec: str) -> Suite:
    name, _, argument = spec.partition(":")
    suite: Any = host().suites.get(name).load()
    if not argument:
        return cast(Suite, suite())
    if not hasattr(suite, "of"):
        raise UsageError(f"suite {name!r} takes no argument, but {spec!r} gives one", hint=f"write --suite {name}")
    return cast(Suite, suite.of(argument))
