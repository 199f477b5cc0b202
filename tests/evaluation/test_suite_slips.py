"""What is wrong with a plugin's suite is told in the name of the suite, its package and version."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests.evaluation.material import SOURCE
from tests.training.material import runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import PluginError
from vlmprompt.evaluation.contract import Cell, Measurement, MetricValue
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.plugins import host

WHO = "suite 'odd' of plugin 'made-up' (made-up 1.0)"


class Odd:
    """A suite that lists what a test says."""

    name: Any = "odd"
    version: Any = 1
    companions: Any = ()
    listed: ClassVar[Callable[[], Any]]

    def cells(self, context: object) -> Any:
        return type(self).listed()


@pytest.fixture
def odd() -> Iterator[type[Odd]]:
    host().suites.register("odd", target=f"{__name__}:Odd", source=SOURCE)
    yield Odd
    Odd.name, Odd.version, Odd.companions = "odd", 1, ()
    host().suites.withdraw(SOURCE)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def note(run: Path, backbone: Backbone, odd: type[Odd], listed: Callable[[], Any]) -> str:
    odd.listed = staticmethod(listed)  # type: ignore[assignment]
    rows = evaluate(run, "odd", runtime(run.parent), backbone=backbone, reference=False, force=True)
    assert {row.status for row in rows} == {"failed"} and {row.value for row in rows} == {None}
    (text,) = {row.note for row in rows}
    return text


def cell(*given: Any, **more: Any) -> Cell:
    values = given or [MetricValue("top1", 0.5, 10)]
    return Cell(**{"name": "a", "metrics": ("top1",), "compute": lambda: values} | more)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (lambda: None, "cells() gives a NoneType (return a list of Cell; tell the author of made-up)"),
        (lambda: "a", "cells() gives a str"),
        (lambda: [cell(), "b"], "cells() gives a str in place 2"),
        (lambda: [cell(name=3)], "the name of cell 1 is 3"),
        (lambda: [cell(metrics="top1")], "cell 'a' has metrics = 'top1'"),
        (lambda: [cell(metrics=())], "cell 'a' has metrics = ()"),
        (lambda: [cell(compute=0.5)], "compute of cell 'a' is a float"),
        (lambda: [cell(parts={"sigma": torch.ones(1)})], "cell 'a' has parts = {'sigma': tensor([1.])}"),
        (lambda: [cell(), cell()], "lists cell 'a' twice"),
        (lambda: [cell("x")], "cell 'a' gives a str among its values"),
        (lambda: [cell(compute=lambda: None)], "cell 'a' gives a NoneType"),
        (lambda: [cell(compute=lambda: Measurement([MetricValue("top1", 0.5, 10)], "seen"))], "details that are a str"),
        (lambda: [cell(MetricValue("top1", torch.tensor(0.5), 10))], "cell 'a' gives a Tensor as top1"),
        (lambda: [cell(MetricValue("top1", 0.5, None))], "cell 'a' gives n = None for top1"),
        (lambda: [cell(compute=list)], "announced top1 for cell a, but gave nothing"),
    ],
)
def test_what_is_no_cell_or_no_number_is_told(
    listed: Callable[[], Any], said: str, run: Path, tiny_backbone: Backbone, odd: type[Odd]
) -> None:
    text = note(run, tiny_backbone, odd, listed)
    assert text.startswith(WHO) and said in text and text.endswith("tell the author of made-up)")


def test_what_its_code_raises_names_it_and_the_line(run: Path, tiny_backbone: Backbone, odd: type[Odd]) -> None:
    def compute() -> list[MetricValue]:
        return {}["sigma"]  # type: ignore[return-value]

    text = note(run, tiny_backbone, odd, lambda: [cell(compute=compute)])
    assert text.startswith(f"{WHO} failed in ") and "test_suite_slips.py, line " in text and "KeyError: 'sigma'" in text


def test_cells_may_come_one_by_one(run: Path, tiny_backbone: Backbone, odd: type[Odd]) -> None:
    odd.listed = staticmethod(lambda: (cell(name=name) for name in "ab"))  # type: ignore[assignment]
    rows = evaluate(run, "odd", runtime(run.parent), backbone=tiny_backbone, reference=False)
    assert [(row.cell, row.status, row.value) for row in rows] == [("a", "ok", 0.5), ("b", "ok", 0.5)]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "even", "calls itself 'even'"),
        ("version", "1", "has version '1'"),
        ("companions", ("oods",), "has companions = ('oods',)"),
        ("companions", "ood", "has companions = 'ood'"),
    ],
)
def test_what_it_says_of_itself_is_looked_at_first(field: str, value: Any, said: str, odd: type[Odd]) -> None:
    setattr(odd, field, value)
    with pytest.raises(PluginError) as error:
        load_suites(["odd"])
    assert error.value.message == f"{WHO}: {said}"
