"""The axes of a sweep, and every run of the grid with its configuration and its folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprompt.config.grid import Combination, label_of, without_training
from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import Resolved
from vlmprompt.data.load import short_names
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.subjects import is_seeded, is_training_free
from vlmprompt.training.folder import run_name


@dataclass(frozen=True)
class Grid:
    """The axes of a sweep.

    Attributes:
        shots: numbers, or "all".
        settings: empty: the one that the configuration says.
        combinations: of further settings, see `config.grid`.
    """

    methods: Sequence[str]
    datasets: Sequence[str]
    shots: Sequence[int | str]
    seeds: Sequence[int]
    settings: Sequence[str] = ()
    combinations: Sequence[Combination] = ()

    def groups(self) -> Iterator[list[dict[str, Any]]]:
        """Run-level flags of every run, in groups that differ in shots only; "combination" where there are some.

        A method that learns nothing has one run a data set and combination; one for each seed where it adapts at test
        time.
        """
        for setting, dataset, method in itertools.product(self.settings or ("",), self.datasets, self.methods):
            flags: dict[str, Any] = {"method": method, "data": dataset}
            flags |= {"setting": setting} if setting else {}
            free = is_training_free(method)
            for combination in without_training(self.combinations) if free else self.combinations or ({},):
                own = flags | ({"combination": combination} if combination else {})
                if free:
                    seeds = self.seeds if is_seeded(method) else (0,)
                    yield from ([own | {"shots": "all", "seed": seed}] for seed in seeds)
                else:
                    yield from ([own | {"shots": k, "seed": seed} for k in self.shots] for seed in self.seeds)


@dataclass(frozen=True)
class Job:
    """One run of the grid."""

    resolved: Resolved
    folder: Path
    dataset: str
    combination: Combination

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
    groups = [[_job(flags, resolve, labels, runs_dir) for flags in group] for group in grid.groups()]
    _require_different(job for group in groups for job in group)
    precisions = sorted({job.config.train.precision for group in groups for job in group})
    if len(precisions) > 1:
        raise UsageError(
            f"a sweep runs in one precision, this one would need {' and '.join(precisions)}",
            hint="give --precision, or sweep the methods apart",
        )
    return groups


def _job(flags: dict[str, Any], resolve: Callable[..., Resolved], labels: dict[str, str], runs_dir: Path) -> Job:
    resolved, combination = resolve(**flags), flags.get("combination", {})
    label = labels[resolved.run.data]
    name = run_name(resolved.run, label)
    if combination:
        name = f"{name}-{label_of(resolved, combination)}"
    return Job(resolved, runs_dir / name, label, combination)


def _require_different(found: Iterable[Job]) -> None:
    """Values that are written differently may be the same."""
    folders: set[Path] = set()
    for job in found:
        if job.folder in folders:
            raise UsageError(
                f"the grid has run {job.folder.name} twice",
                hint="list each method, data set, number of shots, seed and value of --grid once",
            )
        folders.add(job.folder)
