"""The axes of a sweep, and every run of the grid with its configuration and its folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import Resolved
from vlmprompt.data.load import short_names
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.subjects import is_training_free
from vlmprompt.training.folder import run_name


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep.

    Attributes:
        shots: numbers, or "all".
        settings: empty: the one that the configuration says.
    """

    methods: Sequence[str]
    datasets: Sequence[str]
    shots: Sequence[int | str]
    seeds: Sequence[int]
    settings: Sequence[str] = ()

    def groups(self) -> Iterator[list[dict[str, Any]]]:
        """Run-level flags of every run, in groups that differ in shots only.

        A method that learns nothing has one run a data set.
        """
        for setting, dataset, method in itertools.product(self.settings or ("",), self.datasets, self.methods):
            flags: dict[str, Any] = {"method": method, "data": dataset}
            flags |= {"setting": setting} if setting else {}
            if is_training_free(method):
                yield [flags | {"shots": "all", "seed": 0}]
            else:
                yield from ([flags | {"shots": k, "seed": seed} for k in self.shots] for seed in self.seeds)


@dataclass(frozen=True)
class Job:
    """One run of the grid."""

    resolved: Resolved
    folder: Path
    dataset: str

    @property
    def config(self) -> RunConfig:
        return self.resolved.run


def run_names(grid: Grid, resolve: Callable[..., Resolved]) -> dict[str, str]:
    """Folder name of every run of a grid -> its method.

    Raises:
        UsageError: see `jobs`.
    """
    return {job.folder.name: job.config.method for group in jobs(grid, resolve, Path()) for job in group}


def jobs(grid: Grid, resolve: Callable[..., Resolved], runs_dir: Path) -> list[list[Job]]:
    """Every run's configuration, in the groups of the grid, so that a mistake shows before anything starts.

    Args:
        resolve: run-level flags -> configuration, see `sweep`.

    Raises:
        UsageError: an empty axis, a configuration that is not allowed, or two precisions.
    """
    for axis in ("methods", "datasets", "shots", "seeds"):
        if not getattr(grid, axis):
            raise UsageError(f"the sweep has no {axis}", hint=f"give at least one of its {axis}")
    labels = short_names(grid.datasets)
    groups = [[_job(resolve(**flags), labels, runs_dir) for flags in group] for group in grid.groups()]
    precisions = sorted({job.config.train.precision for group in groups for job in group})
    if len(precisions) > 1:
        raise UsageError(
            f"a sweep runs in one precision, this one would need {' and '.join(precisions)}",
            hint="give --precision, or sweep the methods apart",
        )
    return groups


def _job(resolved: Resolved, labels: dict[str, str], runs_dir: Path) -> Job:
    label = labels[resolved.run.data]
    return Job(resolved, runs_dir / run_name(resolved.run, label), label)
