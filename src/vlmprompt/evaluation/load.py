"""Suites by their names; light until one is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from vlmprompt.errors import UsageError
from vlmprompt.plugins import host

if TYPE_CHECKING:
    from vlmprompt.evaluation.contract import Suite


def load_suites(names: Sequence[str]) -> list[Suite]:
    """Suites by name or `<name>:<argument>`, each once.

    Raises:
        UsageError: no such suite, or it takes no such argument.
        PluginError: its plugin failed.
    """
    return [_load_suite(name) for name in dict.fromkeys(names)]


def reads(suite: Suite) -> tuple[str, ...]:
    """The kinds of companions that a suite measures on, of KINDS."""
    return tuple(getattr(suite, "companions", ()))


def without_argument(spec: str) -> UsageError:
    """The error for a suite that is given an argument and takes none."""
    name = spec.partition(":")[0]
    return UsageError(f"suite {name!r} takes no argument, but {spec!r} gives one", hint=f"write --suite {name}")


def _load_suite(spec: str) -> Suite:
    from vlmprompt.evaluation.given import require_suite  # which need torch, as suites do
    from vlmprompt.methods.blame import blaming

    name, _, argument = spec.partition(":")
    entry = host().suites.get(name)
    kind: Any = entry.load()
    if argument and not hasattr(kind, "of"):
        raise without_argument(spec)
    with blaming(entry):
        suite = kind.of(argument) if argument else kind()
    require_suite(entry, suite, spec)
    return cast("Suite", suite)
