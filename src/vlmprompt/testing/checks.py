"""Checks of what a plugin provides, as a test function of pytest with a case for each rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from vlmprompt.conformance.backbones import BACKBONE_CHECKS, BackboneCase
from vlmprompt.conformance.check import BrokenRuleError, Check, NotApplicable
from vlmprompt.conformance.datasets import DATASET_CHECKS, DatasetCase
from vlmprompt.conformance.methods import METHOD_CHECKS
from vlmprompt.conformance.methods.case import MethodCase
from vlmprompt.conformance.providers import PROVIDER_CHECKS, ProviderCase
from vlmprompt.conformance.scores import SCORE_CHECKS, ScoreCase
from vlmprompt.conformance.suites import SUITE_CHECKS, SuiteCase
from vlmprompt.conformance.unregistered import registered, registered_name
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.testing.needed import load_pytest

Case = TypeVar("Case")
TestFunction = Callable[[Any], None]


def check_method(
    method: str | type[PromptMethod], *, config: type[MethodConfig] | None = None, **options: Any
) -> TestFunction:
    """A test of a method by all rules that the toolkit relies on.

    Args:
        method: its registered name, or its class, which need not be registered but must stand in a module.
        config: the class of its options, for a class that is not registered.
        options: that differ from the defaults.

    Returns:
        A function for a test module, to be bound to a name that begins with `test`.
    """
    case = cache(lambda: MethodCase(method if isinstance(method, str) else registered_name(method), options))

    def known() -> AbstractContextManager[object]:
        return nullcontext() if isinstance(method, str) else registered(method, config)

    return _test(METHOD_CHECKS, case, known)


def check_dataset(spec: str, *, root: Path | str | None = None) -> TestFunction:
    """A test of a data set reader.

    Args:
        spec: of a small data set that it reads, as after `--data`.
        root: parent folder of data sets.
    """
    return _test(DATASET_CHECKS, cache(lambda: DatasetCase(spec, None if root is None else Path(root))))


def check_suite(name: str, *, data: str | None = None, setting: str = "few-shot", **companions: str) -> TestFunction:
    """A test of an evaluation suite, which measures a run of a few steps.

    Args:
        name: as after `--suite`.
        data: spec of the data set that is measured; default: twelve drawn pictures of four classes.
        setting: of the run.
        companions: specs of the data sets that it is measured with: `domains=`, `targets=` or `ood=`.
    """
    return _test(SUITE_CHECKS, cache(lambda: SuiteCase(name, data, setting, companions)))


def check_score(name: str, **options: Any) -> TestFunction:
    """A test of a score that tells images of known classes from all others.

    Args:
        name: its registered name.
        options: that differ from the defaults.
    """
    return _test(SCORE_CHECKS, cache(lambda: ScoreCase(name, options)))


def check_provider(name: str, **options: Any) -> TestFunction:
    """A test of a provider of descriptions; nothing leaves the machine.

    Args:
        name: its registered name.
        options: that differ from the defaults. One with an option `base_url` is given a server on loopback.
    """
    return _test(PROVIDER_CHECKS, cache(lambda: ProviderCase(name, options)))


def check_backbone(spec: str, **loading: Any) -> TestFunction:
    """A test of a backbone loader.

    Args:
        spec: as after `--backbone`; of small towers, or with `random_weights=0`.
        loading: arguments of `load_backbone`.
    """
    return _test(BACKBONE_CHECKS, cache(lambda: BackboneCase(spec, loading)))


def _test(
    checks: Sequence[Check[Case]],
    case: Callable[[], Case],
    known: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> TestFunction:
    pytest = load_pytest()

    def test(check: Check[Case]) -> None:
        try:
            with known():
                check(case())
        except NotApplicable as reason:
            pytest.skip(str(reason))
        except BrokenRuleError as broken:
            pytest.fail(f"{broken.what}\nrule: {check.rule}\nnext step: {broken.step}", pytrace=False)

    decorated: TestFunction = pytest.mark.parametrize("check", checks, ids=[check.name for check in checks])(test)
    return decorated
