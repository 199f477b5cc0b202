"""Data sets named on the command line add their suite, and are never named for nothing."""

from __future__ import annotations

import pytest

from vlmprompt.cli.companions import USES, suites_for
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.load import load_suites, reads
from vlmprompt.plugins import CORE, host
from vlmprompt.registry import Source


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


def test_what_flags_know_of_the_cores_suites_is_what_these_say() -> None:
    names = [entry.name for entry in host().suites.entries() if entry.distribution == CORE]
    said = {(kind, suite.name) for suite in load_suites(names) for kind in reads(suite)}
    assert said == {(kind, suite) for kind, (_, suite) in USES.items()}
    assert reads(load_suites(["ood:imagenet-mos"])[0]) == ()


class Robust:
    """A suite of a plugin that measures on sets of other things."""

    name = "robust"
    version = 1
    companions = ("ood",)


def test_a_plugins_suite_says_which_flags_it_reads() -> None:
    source = Source("made-up-flags", "made-up-flags", "1.0")
    host().suites.register("robust", target=f"{__name__}:Robust", source=source)
    try:
        assert suites_for(["robust"], {"ood": ["folder:a"]}) == ["robust"]
        with pytest.raises(UsageError, match="--domain has no effect on these suites"):
            suites_for(["robust"], {"domains": ["folder:a"], "ood": ["folder:b"]})
    finally:
        host().suites.withdraw(source)
