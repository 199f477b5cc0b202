"""All checks of what an installed plugin provides, without pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vlmprompt.conformance.check import Check, Outcome
from vlmprompt.conformance.methods import METHOD_CHECKS
from vlmprompt.conformance.methods.case import MethodCase
from vlmprompt.conformance.providers import PROVIDER_CHECKS, ProviderCase
from vlmprompt.conformance.scores import SCORE_CHECKS, ScoreCase
from vlmprompt.conformance.suites import SUITE_CHECKS, SuiteCase
from vlmprompt.errors import VlmPromptError
from vlmprompt.methods.build import method_config
from vlmprompt.methods.score_config import score_config
from vlmprompt.plugins import host
from vlmprompt.registry import Source

# Kinds that need nothing of the user's, and what is tried on them.
_TRIED: dict[str, tuple[Callable[[str], Any], Sequence[Check[Any]]]] = {
    "methods": (MethodCase, METHOD_CHECKS),
    "scores": (ScoreCase, SCORE_CHECKS),
    "suites": (SuiteCase, SUITE_CHECKS),
    "llm_providers": (ProviderCase, PROVIDER_CHECKS),
}
# Kinds that are of no use without data or weights of somebody's.
ELSEWHERE = {"datasets": "check_dataset", "backbones": "check_backbone"}


@dataclass(frozen=True)
class Tried:
    """What came of the checks of one thing.

    Attributes:
        kind: as registries are called: "methods".
        untried: why nothing could be tried; empty where it was.
    """

    kind: str
    name: str
    outcomes: tuple[Outcome, ...] = ()
    untried: str = ""

    @property
    def failed(self) -> list[Outcome]:
        """The rules that it breaks."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def public(self) -> dict[str, Any]:
        """As JSON documents show it."""
        checks = [outcome.public() for outcome in self.outcomes]
        return {"kind": self.kind, "name": self.name, "checks": checks, "untried": self.untried}


def provided(source: Source) -> list[tuple[str, str]]:
    """Kind and name of all that a plugin provides and that is tried."""
    found = host().provided_by(source)
    return [(kind, name) for kind in _TRIED for name in found.get(kind, ())]


def elsewhere(source: Source) -> list[str]:
    """What a plugin provides that can only be tried in a test, each in a line."""
    found = host().provided_by(source)
    return [
        f"{kind} ({', '.join(found[kind])}) are not tried here: use vlmprompt.testing.{function} in a test"
        for kind, function in ELSEWHERE.items()
        if kind in found
    ]


def try_one(kind: str, name: str, done: Callable[[], None] = lambda: None) -> Tried:
    """All checks of one thing, with its default options.

    Args:
        done: called after each check.
    """
    make, checks = _TRIED[kind]
    case = make(name)
    if reason := _incomplete(case):
        return Tried(kind, name, untried=reason)
    outcomes = []
    for check in checks:
        outcomes.append(check.outcome(case))
        done()
    return Tried(kind, name, tuple(outcomes))


def count(things: Sequence[tuple[str, str]]) -> int:
    """How many checks there are."""
    return sum(len(_TRIED[kind][1]) for kind, _ in things)


def _incomplete(case: object) -> str:
    """Why it cannot be made without being told more, such as an option that has no default."""
    try:
        if isinstance(case, MethodCase):
            method_config(case.name)
        elif isinstance(case, ScoreCase):
            score_config(case.name)
        elif isinstance(case, ProviderCase):
            with case.served():
                pass
    except VlmPromptError as error:
        return error.told
    except ValidationError as error:
        return f"it needs option {error.errors()[0]['loc'][0]}"
    return ""
