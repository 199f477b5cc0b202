"""Data sets that are named to be measured on: which suite each is for, and that none is named for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmprompt.errors import UsageError
from vlmprompt.plugins import CORE, host

# Kind of companion (see `Dataset.companions`) -> the flag that names it, and the suite of the core that measures on it.
USES = {
    "domains": ("--domain", "domain-generalization"),
    "targets": ("--target", "cross-dataset"),
    "ood": ("--ood", "ood"),
}


def suites_for(suites: Sequence[str] | None, companions: Mapping[str, Sequence[str]]) -> list[str]:
    """The suites asked for; where none is, those of the companions, or else accuracy.

    Raises:
        UsageError: no such suite, or a companion that none of them measures on.
    """
    wanted = {kind: USES[kind] for kind, specs in companions.items() if specs}
    if not suites:
        return [suite for _, suite in wanted.values()] or ["accuracy"]
    for kind, (flag, suite) in wanted.items():
        if not any(_reads(spec, kind) for spec in suites):
            raise UsageError(f"{flag} has no effect on these suites", hint=f"add --suite {suite}")
    return list(suites)


def score_options(assignments: Sequence[str] | None, suites: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `--score-set` says, for suites that measure scores.

    Raises:
        UsageError: none of them does, or there is no such score or option.
    """
    if not assignments:
        return {}
    from vlmprompt.methods.score_config import read_score_settings

    found = read_score_settings(assignments)
    if not any(_measures_scores(suite) for suite in suites):
        raise UsageError("--score-set has no effect on these suites", hint="add --suite ood")
    return found


def _measures_scores(suite: str) -> bool:
    name, entry = suite.partition(":")[0], host().suites.get(suite.partition(":")[0])
    if entry.distribution == CORE:
        return name == "ood"
    return bool(getattr(entry.load(), "reads_scores", False))


def _reads(suite: str, kind: str) -> bool:
    """Whether a suite measures on companions of a kind; the core's are known without loading what they need."""
    if host().suites.get(suite.partition(":")[0]).distribution == CORE:
        return suite == USES[kind][1]
    from vlmprompt.evaluation.load import load_suites, reads

    return any(kind in reads(one) for one in load_suites([suite]))
