"""Checks of data sets, suites, providers and backbones: the core's pass, and each check fails where it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing import broken_parts
from vlmprompt.conformance.backbones import BACKBONE_CHECKS, BackboneCase
from vlmprompt.conformance.check import Check, Outcome
from vlmprompt.conformance.datasets import DATASET_CHECKS, DatasetCase
from vlmprompt.conformance.providers import PROVIDER_CHECKS, ProviderCase
from vlmprompt.conformance.suites import SUITE_CHECKS, SuiteCase
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.testing import check_backbone, check_dataset, check_provider, check_suite

HERE = broken_parts.__name__
ACME = Source("acme", "acme-prompts", "1.2.3")

test_drawn_data = check_dataset("doodles-animals:night")
test_accuracy = check_suite("accuracy")
test_openai = check_provider("openai")
test_parts = check_provider("parts")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    registries = host().registries
    for kind, names in broken_parts.NAMES.items():
        for name, (target, config) in names.items():
            full = None if config is None else f"{HERE}:{config}"
            registries[kind].register(name, target=f"{HERE}:{target}", config=full, source=ACME)
    yield
    for registry in registries.values():
        registry.withdraw(ACME)


test_tiny_towers = check_backbone("acme-tiny")


def outcome_of(checks: tuple[Check[Any], ...], name: str, case: object) -> Outcome:
    (check,) = [check for check in checks if check.name == name]
    return check.outcome(case)


# rule -> the reader that breaks it, and what is said.
DATA = {
    "reads_the_same_twice": ("shuffled", "two different data sets"),
    "leaves_global_randomness_alone": ("random", "global random state"),
    "has_classes_and_splits": ("training", "unknown splits ['training']"),
    "labels_fit_the_classes": ("off-by-one", "has label 2 of 2 classes"),
    "ids_are_stable_names": ("same-ids", "have one id"),
    "splits_share_no_image": ("overlap", "is in train and in test"),
    "template_has_a_place": ("placeless", "has not one {}"),
    "images_can_be_read": ("grey", "is L"),
    "records_reach_other_processes": ("closures", "cannot be sent"),
    "drawn_splits_say_their_seed": ("unsaid", "notes do not say so"),
    "refuses_what_is_not_there": ("crashing", "ends in KeyError"),
}


@pytest.mark.parametrize("rule", DATA)
def test_a_broken_reader_is_found(rule: str) -> None:
    name, reason = DATA[rule]
    outcome = outcome_of(DATASET_CHECKS, rule, DatasetCase(f"{name}:here"))
    assert (outcome.status, bool(outcome.step)) == ("failed", True)
    assert reason in outcome.reason


SUITES = {
    "says_what_it_is": ("misnamed", "calls itself 'other'"),
    "cells_have_names_of_their_own": ("twins", "two cells have one name"),
    "numbers_are_finite": ("empty", "value was not finite"),
    "numbers_are_the_same_twice": ("growing", "has other numbers"),
}


@pytest.mark.parametrize("rule", SUITES)
def test_a_broken_suite_is_found(rule: str) -> None:
    name, reason = SUITES[rule]
    outcome = outcome_of(SUITE_CHECKS, rule, SuiteCase(name))
    assert (outcome.status, bool(outcome.step)) == ("failed", True)
    assert reason in outcome.reason


PROVIDERS = {
    "says_what_it_is": ("nameless", "model = None"),
    "describes_its_options": ("undescribed", "no description of the options colour"),
    "identity_is_for_the_cache": ("talkative", "the key is part of identity()"),
    "keeps_its_secrets": ("talkative", "the key is part of model"),
    "answers_or_says_why_not": ("crash", "ask ends in ValueError"),
    "says_that_nobody_answers": ("deaf", "without a server it gives Reply("),
}


@pytest.mark.parametrize("rule", PROVIDERS)
def test_a_broken_provider_is_found(rule: str) -> None:
    name, reason = PROVIDERS[rule]
    outcome = outcome_of(PROVIDER_CHECKS, rule, ProviderCase(name))
    assert (outcome.status, bool(outcome.step)) == ("failed", True)
    assert reason in outcome.reason


BACKBONES = {
    "loads_the_same_twice": ("acme-seedless", "loaded twice"),
    "is_frozen": ("acme-warm", "would take gradients"),
    "has_a_scale": ("acme-flat", "scale = 0.0"),
    "transforms_images": ("acme-wide", "a picture becomes"),
    "both_towers_share_a_space": ("acme-deaf", "all inputs have one feature"),
    "batches_do_not_matter": ("acme-batched", "images in a batch"),
    "prompts_are_as_words": ("acme-wordless", "from the words"),
    "local_features_fit": ("acme-miscounted", "local features are (4, 15, 32), not (4, 16, 32)"),
    "visual_prompts_act": ("acme-promptless", "prompt tokens change nothing"),
}


@pytest.mark.parametrize("rule", BACKBONES)
def test_a_broken_backbone_is_found(rule: str) -> None:
    name, reason = BACKBONES[rule]
    outcome = outcome_of(BACKBONE_CHECKS, rule, BackboneCase(name))
    assert (outcome.status, bool(outcome.step)) == ("failed", True)
    assert reason in outcome.reason


def test_every_check_has_something_that_breaks_it() -> None:
    for checks, table in (
        (DATASET_CHECKS, DATA),
        (SUITE_CHECKS, SUITES),
        (PROVIDER_CHECKS, PROVIDERS),
        (BACKBONE_CHECKS, BACKBONES),
    ):
        assert [check.name for check in checks] == list(table)
