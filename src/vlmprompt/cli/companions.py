"""Data sets that are named to be measured on: which suite each is for, and that none is named for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlmprompt.errors import UsageError
from vlmprompt.plugins import CORE, host

# Kind of companion (see `Dataset.companions`) -> the flag that names it, and the suite that measures on it.
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
    # A suite of a plugin may measure on whatever it likes.
    if all(host().suites.get(suite.partition(":")[0]).distribution == CORE for suite in suites):
        for flag, suite in wanted.values():
            if suite not in suites:
                raise UsageError(f"{flag} has no effect on these suites", hint=f"add --suite {suite}")
    return list(suites)
