"""A grid of runs, each trained and measured, into one results file.

In one process, so towers are loaded and test images read once. A rerun of the same sweep goes on where the
last one stopped: finished trainings and measurements are skipped, an unfinished training is resumed.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.config.resolve import Resolved
from vlmprompt.data.load import short_names
from vlmprompt.errors import InputError, Interrupted, UsageError
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import REFERENCES_DIR, RESULTS_FILE, evaluate, load_suites, reason
from vlmprompt.evaluation.subjects import REFERENCES, is_training_free
from vlmprompt.evaluation.variants import unusual
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.rows import DATA, ResultRow
from vlmprompt.results.store import EVERYTHING, ResultStore
from vlmprompt.training.folder import run_name
from vlmprompt.training.provenance import RUN_FILE
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

RUNS_DIR = "runs"
log = logging.getLogger(__name__)


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
class _Job:
    """One run of the grid."""

    resolved: Resolved
    folder: Path
    dataset: str

    @property
    def config(self) -> RunConfig:
        return self.resolved.run


def sweep(
    grid: Grid,
    resolve: Callable[..., Resolved],
    suites: Sequence[str],
    runtime: Runtime,
    *,
    out: Path,
    reference: bool = True,
    force: bool = False,
    companions: Mapping[str, Sequence[str]] | None = None,
    aliases: Path | None = None,
    contents: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> list[ResultRow]:
    """Train and measure every run of a grid.

    Args:
        resolve: run-level flags (`method`, `data`, `shots`, `seed`, perhaps `setting`) -> configuration.
        suites: names of registered suites.
        out: gets `results.jsonl`, `runs/` and `references/`.
        reference: add zero-shot and linear probe, unless they are in the grid themselves.
        force: train and measure again what is done.
        companions, aliases, contents: see `runner.evaluate`.
        resources: towers and features of images to share with other sweeps.

    Returns:
        The rows of the grid, each number once, references last. A run whose training failed has a failed
        row for each suite (see `incomplete`).

    Raises:
        UsageError: an empty axis, a configuration that is not allowed, an unknown suite, or two precisions.
        Interrupted: by Ctrl-C; everything finished is kept.
    """
    progress = progress or SilentProgress()
    groups = _jobs(grid, resolve, out / RUNS_DIR)
    beside = [name for name in REFERENCES if name not in grid.methods] if reference else []
    resources = resources or Resources(runtime, progress)
    beside_data = {"companions": companions, "aliases": aliases, "contents": contents}
    work = _Sweep(suites, beside, resources, out, force=force, measured_on=beside_data)
    with progress.task("sweep", sum(map(len, groups)), unit="run") as task:
        try:
            for job in itertools.chain.from_iterable(map(work.measure, groups)):
                task.advance(run=job.folder.name)
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(
                f"sweep interrupted; what was measured is kept in {work.store.path}",
                hint="the same command goes on from there",
            ) from error
    order = {method: place for place, method in enumerate(grid.methods)}
    return sorted(work.rows.values(), key=lambda row: order.get(row.method, len(order)))


def run_names(grid: Grid, resolve: Callable[..., Resolved]) -> dict[str, str]:
    """Folder name of every run of a grid -> its method.

    Raises:
        UsageError: see `sweep`.
    """
    return {job.folder.name: job.config.method for group in _jobs(grid, resolve, Path()) for job in group}


def _jobs(grid: Grid, resolve: Callable[..., Resolved], runs_dir: Path) -> list[list[_Job]]:
    """Every run's configuration, so that a mistake shows before anything starts."""
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


def _job(resolved: Resolved, labels: dict[str, str], runs_dir: Path) -> _Job:
    label = labels[resolved.run.data]
    return _Job(resolved, runs_dir / run_name(resolved.run, label), label)


class _Sweep:
    """What the runs of a sweep share; `rows` collects every number once."""

    def __init__(
        self,
        suites: Sequence[str],
        references: Sequence[str],
        resources: Resources,
        out: Path,
        *,
        force: bool,
        measured_on: Mapping[str, Any],
    ) -> None:
        self.store = ResultStore(out / RESULTS_FILE)
        self.rows: dict[tuple[str, str], ResultRow] = {}
        self._suites = load_suites(suites)
        self._references = references
        self._resources = resources
        self._references_dir = out / REFERENCES_DIR
        self._force = force
        self._measured_on = measured_on

    def measure(self, group: Sequence[_Job]) -> Iterator[_Job]:
        """Train the runs of a group, then measure each: a curve over shots needs them all. Yields what is done."""
        errors = [self._attempt(job, self._train) for job in group]
        for job, error in zip(group, errors, strict=True):
            error = error or self._attempt(job, self._evaluate)
            if error is not None:
                failures = self._failed(job, error)
                self.store.append(failures)
                self._keep(failures)
            yield job

    def _attempt(self, job: _Job, step: Callable[[_Job], None]) -> Exception | None:
        """Do one step; its error is kept for the results, and the others go on."""
        try:
            step(job)
        except (KeyboardInterrupt, Interrupted):
            raise
        except Exception as error:
            log.debug("run %s failed", job.folder, exc_info=True)
            self._resources.progress.warn(f"run {job.folder.name} failed: {reason(error)}")
            return error
        return None

    def _train(self, job: _Job) -> None:
        train(
            job.config,
            self._resources.runtime,
            out=job.folder,
            resume=(job.folder / RUN_FILE).exists(),
            force=self._force,
            progress=self._resources.progress,
            sources=job.resolved.sources,
            backbone=None if _is_finished(job) and not self._force else self._resources.backbone(job.config),
        )

    def _evaluate(self, job: _Job) -> None:
        rows = evaluate(
            job.folder,
            [suite.name for suite in self._suites],
            self._resources.runtime,
            reference=self._references,
            force=self._force,
            store=self.store,
            references_dir=self._references_dir,
            **self._measured_on,
            resources=self._resources,
            progress=self._resources.progress,
        )
        self._keep(rows)

    def _keep(self, rows: Sequence[ResultRow]) -> None:
        self.rows |= {(row.key, row.metric): row for row in rows}

    def _failed(self, job: _Job, error: Exception) -> list[ResultRow]:
        """A row for each suite, in place of everything that it would have measured."""
        config, untrained = job.config, is_training_free(job.config.method)
        return [
            ResultRow(
                run=job.folder.name,
                method=config.method,
                dataset=job.dataset,
                backbone=config.backbone,
                shots=None if untrained else config.shots,
                seed=None if untrained else config.seed,
                suite=suite.name,
                suite_version=suite.version,
                cell=EVERYTHING,
                metric=EVERYTHING,
                value=None,
                n=None,
                status="failed",
                note=reason(error),
                setup=unusual(config) | {DATA: config.data},
                key=hashlib.sha256(f"{suite.name} {config.model_dump_json()}".encode()).hexdigest(),
            )
            for suite in self._suites
        ]


def _is_finished(job: _Job) -> bool:
    """Whether the run is there, so that training it needs no towers."""
    try:
        return load_run(job.folder).info.status == "finished"
    except InputError:
        return False
