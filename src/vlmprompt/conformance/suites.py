"""The checks of evaluation suites: a run of a few steps on drawn pictures is measured by the real evaluator."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmprompt.config.models import RunConfig, Runtime, TrainConfig
from vlmprompt.conformance import material
from vlmprompt.conformance.check import Check, checks, require, skip
from vlmprompt.data.load import load_dataset
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Suite
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.subjects import run_subject
from vlmprompt.progress import SilentProgress
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

MEASURED = "coop"  # of the core, and served by every suite


@dataclass
class SuiteCase:
    """A suite and what it is to measure.

    Attributes:
        name: as after `--suite`.
        data: spec of a data set; None: the drawn pictures.
        setting: of the run.
        companions: kind -> spec of a data set.
    """

    name: str
    data: str | None = None
    setting: str = "few-shot"
    companions: Mapping[str, str] = field(default_factory=dict)

    def suite(self) -> Suite:
        """A new instance."""
        return load_suites([self.name])[0]

    def cells(self) -> Sequence[Cell]:
        """What it lists for the run."""
        with tempfile.TemporaryDirectory() as folder, material.tiny_data():
            runtime = _runtime(folder)
            run = load_run(self._trained(Path(folder)))
            resources = Resources(runtime, SilentProgress(), material.towers())
            resources.serve(run)
            dataset = load_dataset(run.config.data)
            given = {kind: (spec,) for kind, spec in self.companions.items()}
            subject = run_subject(run, resources, temperature=None)
            return self.suite().cells(Context(subject, dataset, resources.bank(run.config), companions=given))

    def measure(self) -> list[ResultRow]:
        """The rows of a run that is trained anew."""
        with tempfile.TemporaryDirectory() as folder, material.tiny_data():
            run = self._trained(Path(folder))
            more: dict[str, Any] = {"reference": False, "backbone": material.towers()}
            return evaluate(run, self.name, _runtime(folder), companions=dict(self.companions), **more)

    @cached_property
    def rows(self) -> list[ResultRow]:
        """The rows of a first measurement."""
        return self.measure()

    def _trained(self, folder: Path) -> Path:
        config = RunConfig.model_validate(
            {
                "method": MEASURED,
                "data": self.data or material.DATA,
                "backbone": "tiny-vit",
                "shots": 1,
                "setting": self.setting,
                "train": TrainConfig(max_steps=2, batch_size=4, warmup_epochs=0),
                "options": {"n_ctx": 2},
            }
        )
        return train(config, _runtime(str(folder)), out=folder / "run", backbone=material.towers()).run


def _runtime(folder: str) -> Runtime:
    return Runtime(device="cpu", workers=0, runs_dir=Path(folder))


def says_what_it_is(case: SuiteCase) -> None:
    """A suite has its name, a version and a docstring that says the protocol."""
    suite = case.suite()
    require(
        suite.name == case.name, f"its name is {suite.name!r}, and it is registered as {case.name!r}", "make them one"
    )
    counted = type(suite.version) is int and suite.version >= 1
    require(counted, f"version = {suite.version!r}", "count from 1, one more when its numbers change")
    require(bool(inspect.getdoc(type(suite))), "it has no docstring", "say the protocol and its source in it")


def cells_have_names_of_their_own(case: SuiteCase) -> None:
    """Cells are listed the same each time, with names of their own, metrics, and parts that JSON can hold."""
    cells, again = case.cells(), case.cells()
    require(bool(cells), "it lists no cells for a run", "list one that is not applicable or missing, with the reason")
    names = [cell.name for cell in cells]
    require(len(set(names)) == len(names), "two cells have one name", "name each after what is measured")
    same = [(cell.name, cell.metrics, dict(cell.parts)) for cell in again]
    listed = [(cell.name, cell.metrics, dict(cell.parts)) for cell in cells]
    require(
        same == listed, "for the same run it lists other cells each time", "let names and parts depend on data alone"
    )
    for cell in cells:
        require(bool(cell.metrics), f"cell {cell.name!r} names no metrics", "name those that compute will give")
        json.dumps(dict(cell.parts))


def numbers_are_finite(case: SuiteCase) -> None:
    """What is measured is finite, counted and of the metrics that the cells name."""
    broken = [row for row in case.rows if row.status == "failed"]
    require(
        not broken,
        f"cell {broken[0].cell!r} failed: {broken[0].note}" if broken else "",
        "see the reason; guard means over no images",
    )
    done = [row for row in case.rows if row.status == "ok"]
    if not done:
        skip("it measures nothing of such a run: give it data or companions")
    named = {cell.name: cell.metrics for cell in case.cells()}
    for row in done:
        known = row.metric in named.get(row.cell, ())
        require(
            known, f"cell {row.cell!r} gives a metric {row.metric!r} that it does not name", "name it in Cell.metrics"
        )
        require(bool(row.n), f"{row.metric} of cell {row.cell!r} is of no images", "give MetricValue the number, n=")


def numbers_are_the_same_twice(case: SuiteCase) -> None:
    """The same run has the same numbers each time."""
    first = {(row.cell, row.metric): row.value for row in case.rows}
    again = {(row.cell, row.metric): row.value for row in case.measure()}
    require(first == again, "a run that is trained and measured twice has other numbers", "draw from a seed of its own")


SUITE_CHECKS: tuple[Check[SuiteCase], ...] = checks(
    says_what_it_is, cells_have_names_of_their_own, numbers_are_finite, numbers_are_the_same_twice
)
