"""Checks of scores: the core's and NegLabel pass, and each check fails where it should."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing import broken_scores
from vlmprompt.conformance.plugin import try_one
from vlmprompt.conformance.scores import SCORE_CHECKS, ScoreCase
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.testing import check_score

ACME = Source("acme", "acme-scores", "1.2.3")

test_mcm = check_score("mcm")
test_energy = check_score("energy")
test_gl_mcm = check_score("gl-mcm")
test_neglabel = check_score("neglabel", negatives="demo", groups=4)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    for name, cls, config, _ in broken_scores.BROKEN.values():
        home = broken_scores.__name__
        options = None if config is None else f"{home}:{config}"
        host().scores.register(name, target=f"{home}:{cls}", config=options, summary="broken", source=ACME)
    yield
    host().scores.withdraw(ACME)


def test_every_rule_has_something_that_breaks_it() -> None:
    assert [check.name for check in SCORE_CHECKS] == list(broken_scores.BROKEN)


@pytest.mark.parametrize("rule", broken_scores.BROKEN)
def test_a_broken_rule_is_told(rule: str) -> None:
    name, _, _, said = broken_scores.BROKEN[rule]
    (check,) = [check for check in SCORE_CHECKS if check.name == rule]
    outcome = check.outcome(ScoreCase(name))
    assert outcome.status == "failed" and said in outcome.reason


def test_the_command_tries_scores() -> None:
    tried = try_one("scores", "msp")
    assert not tried.failed
    assert {outcome.status for outcome in tried.outcomes} == {"ok", "not applicable"}
    assert "negatives" in try_one("scores", "neglabel").untried
