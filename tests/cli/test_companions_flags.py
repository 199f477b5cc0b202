"""Data sets named on the command line add their suite, and are never named for nothing."""

from __future__ import annotations

import pytest

from vlmprompt.cli.companions import suites_for
from vlmprompt.errors import UsageError


@pytest.mark.parametrize(
    ("companions", "suites"),
    [
        ({"domains": (), "targets": (), "ood": ()}, ["accuracy"]),
        ({"domains": ["folder:a"]}, ["domain-generalization"]),
        ({"targets": ["folder:a"]}, ["cross-dataset"]),
        ({"ood": ["folder:a"]}, ["ood"]),
        ({"domains": ["folder:a"], "ood": ["folder:b"]}, ["domain-generalization", "ood"]),
    ],
)
def test_companions_choose_their_suites(companions: dict[str, list[str]], suites: list[str]) -> None:
    assert suites_for(None, companions) == suites


@pytest.mark.parametrize(
    ("kind", "flag", "suite"),
    [
        ("domains", "--domain", "domain-generalization"),
        ("targets", "--target", "cross-dataset"),
        ("ood", "--ood", "ood"),
    ],
)
def test_a_companion_without_effect_is_an_error(kind: str, flag: str, suite: str) -> None:
    assert suites_for(["accuracy", suite], {kind: ["folder:a"]}) == ["accuracy", suite]
    with pytest.raises(UsageError, match=f"{flag} has no effect on these suites") as error:
        suites_for(["accuracy", "ood:imagenet-mos"], {kind: ["folder:a"]})
    assert error.value.hint == f"add --suite {suite}"


def test_a_mistyped_suite_is_told_first() -> None:
    with pytest.raises(UsageError, match="unknown suite 'acuracy'"):
        suites_for(["acuracy"], {"ood": ["folder:a"]})
