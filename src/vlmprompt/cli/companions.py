"""Data sets that are named to be measured on: which suite each is for, and that none is named for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vlmprompt.cli.options import ContentsFlag, DomainOption, OodOption, ScoreSetOption, SuiteOption, TargetOption
from vlmprompt.errors import UsageError
from vlmprompt.plugins import CORE, host

# Kind of companion (see `Dataset.companions`) -> the flag that names it, and the suite of the core that measures on it.
USES = {
    "domains": ("--domain", "domain-generalization"),
    "targets": ("--target", "cross-dataset"),
    "ood": ("--ood", "ood"),
}


@dataclass(frozen=True, kw_only=True)
class SuiteFlags:
    """What is measured."""

    suite: SuiteOption = None
    domain: DomainOption = None
    target: TargetOption = None
    ood: OodOption = None
    score_set: ScoreSetOption = None
    contents: ContentsFlag = False

    @property
    def companions(self) -> dict[str, Sequence[str]]:
        """Kind -> specs of data sets."""
        return {"domains": self.domain or (), "targets": self.target or (), "ood": self.ood or ()}

    @property
    def specs(self) -> list[str]:
        """All that `companions` names."""
        return [spec for specs in self.companions.values() for spec in specs]

    @cached_property
    def suites(self) -> list[str]:
        """Raises: UsageError: see `suites_for`."""
        return suites_for(self.suite, self.companions)

    @cached_property
    def beside(self) -> dict[str, Any]:
        """Arguments of whoever measures, beside the suites.

        Raises:
            UsageError: see `score_options`.
        """
        of_scores = score_options(self.score_set, self.suites)
        return {"companions": self.companions, "score_options": of_scores, "contents": self.contents}


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
