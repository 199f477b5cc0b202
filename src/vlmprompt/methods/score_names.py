"""The names of the scores that tell known classes from all else; light, for whoever only checks a name."""

from __future__ import annotations

from vlmprompt.errors import UsageError, did_you_mean
from vlmprompt.plugins import host
from vlmprompt.registry import Entry

# Those of the core, in the order of tables.
SCORES = ("mcm", "l-mcm", "gl-mcm", "max-logit", "energy", "entropy", "var", "msp")


def known_scores() -> tuple[str, ...]:
    """All of them: the core's, then those of plugins."""
    return (*SCORES, *(name for name in host().scores.names() if name not in SCORES))


def score_entry(name: str) -> Entry:
    """How a score is registered.

    Raises:
        UsageError: there is no such score.
        PluginError: a plugin that failed would have provided it.
    """
    if name not in known_scores() and not any(failed.provides("score", name) for failed in host().failures):
        raise UsageError(f"unknown OOD score {name!r}", hint=did_you_mean(name, known_scores()))
    return host().scores.get(name)
