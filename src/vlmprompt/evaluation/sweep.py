"""A grid of runs, each trained and measured, into one results file.

In one process, so towers are loaded and test images read once. A rerun of the same sweep goes on where the
last one stopped: finished trainings and measurements are skipped, an unfinished training is resumed.

Any number of processes may carry out one sweep in one folder: each takes a run that nobody has, trains or measures
it, and takes the next, until none is left. What a process that died has left is taken over.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlmprompt.claims.claim import BusyError, claim
from vlmprompt.claims.work import shared, take
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.config.resolve import Resolved
from vlmprompt.data.load import short_names
from vlmprompt.errors import Interrupted, UsageError
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import REFERENCES_DIR, RESULTS_FILE, evaluate, load_suites, reason
from vlmprompt.evaluation.subjects import REFERENCES, is_training_free
from vlmprompt.evaluation.variants import unusual
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import DATA, ResultRow
from vlmprompt.results.store import EVERYTHING, ResultStore
from vlmprompt.training.folder import RunFolder, hold, is_finished, run_name
from vlmprompt.training.run import train

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
        force: train and measure again what is done, alone in the folder.
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
    with shared(out, progress, alone=force), progress.task("sweep", sum(map(len, groups)), unit="run") as task:
        work = _Sweep(suites, beside, resources, out, force=force, measured_on=beside_data)
        try:
            for step in take(work.steps(groups), lambda step: step.act(step.job), progress):
                if step.last:
                    task.advance(run=step.job.folder.name)
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(
                f"interrupted; what was measured is kept in {out / RESULTS_FILE}",
                hint="the same command goes on from there",
            ) from error
    order = {method: place for place, method in enumerate(grid.methods)}
    return sorted(work.rows(groups), key=lambda row: order.get(row.method, len(order)))


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


@dataclass(frozen=True)
class _Step:
    """Something to do for a run; raises BusyError where it cannot be done now.

    Attributes:
        last: nothing comes after it.
    """

    job: _Job
    act: Callable[[_Job], None]
    last: bool


class _Sweep:
    """What the runs of a sweep share, and what came of each."""

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
        self._ledger = Ledger(ResultStore(out / RESULTS_FILE), fresh=force)
        self._rows: dict[Path, Sequence[ResultRow]] = {}
        self._trained: set[Path] = set()
        self._looked: set[Path] = set()
        self._suites = load_suites(suites)
        self._references = references
        self._resources = resources
        self._out = out
        self._force = force
        self._measured_on = measured_on

    def steps(self, groups: Sequence[Sequence[_Job]]) -> Iterator[_Step]:
        """Train the runs of each group, then measure each: a curve over shots needs them all."""
        for group in groups:
            yield from (_Step(job, self._train, False) for job in group)
            yield from (_Step(job, partial(self._measure, group), True) for job in group)

    def rows(self, groups: Sequence[Sequence[_Job]]) -> list[ResultRow]:
        """Every number once, in the order of the grid, beside the first run that has it: whoever measured it."""
        found: dict[tuple[str, str], ResultRow] = {}
        for job in (job for group in groups for job in group):
            for row in self._rows[job.folder]:
                found.setdefault((row.key, row.metric), row.model_copy(update={"run": job.folder.name}))
        return list(found.values())

    def _train(self, job: _Job) -> None:
        with claim(self._out, f"train {job.folder.name}", f"training of {job.folder.name}"):
            self._attempt(job, self._do_train)
        self._trained.add(job.folder)

    def _measure(self, group: Sequence[_Job], job: _Job) -> None:
        for other in group:
            if other.folder not in self._trained:
                raise BusyError(f"training of {other.folder.name}", None)
        with claim(self._out, f"measure {job.folder.name}", f"measuring of {job.folder.name}"):
            self._attempt(job, self._do_measure)

    def _attempt(self, job: _Job, step: Callable[[_Job], None]) -> None:
        """Do one step, unless the run has failed by now, here or elsewhere; an error becomes its rows."""
        failures = self._failures(job)
        if failures is not None:
            self._rows[job.folder] = failures
            return
        try:
            step(job)
        except (KeyboardInterrupt, Interrupted, BusyError):
            raise
        except Exception as error:
            log.debug("run %s failed", job.folder, exc_info=True)
            self._resources.progress.warn(f"run {job.folder.name} failed: {reason(error)}")
            self._rows[job.folder] = self._failed(job, error)
            self._ledger.append(self._rows[job.folder])

    def _do_train(self, job: _Job) -> None:
        folder = RunFolder(job.folder)
        done = is_finished(folder) and not self._force  # and needs no towers
        if not done:
            with hold(folder):  # else data would be read at every look at a run that somebody has
                pass
        train(
            job.config,
            self._resources.runtime,
            out=job.folder,
            resume="maybe",
            force=self._force,
            progress=self._resources.progress,
            sources=job.resolved.sources,
            backbone=None if done else self._resources.backbone(job.config),
        )

    def _do_measure(self, job: _Job) -> None:
        patient = job.folder in self._looked  # first to the other runs, then wait here
        self._looked.add(job.folder)
        self._rows[job.folder] = evaluate(
            job.folder,
            [suite.name for suite in self._suites],
            self._resources.runtime,
            reference=self._references,
            force=self._force,
            ledger=self._ledger,
            patient=patient,
            references_dir=self._out / REFERENCES_DIR,
            **self._measured_on,
            resources=self._resources,
            progress=self._resources.progress,
        )

    def _failures(self, job: _Job) -> list[ResultRow] | None:
        """Rows of a run that has failed as a whole since this sweep began."""
        self._ledger.refresh()
        found = [self._ledger.rows(_failure_key(job, suite), [EVERYTHING]) for suite in self._suites]
        return [row for rows in found for row in rows or ()] if all(found) else None

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
                key=_failure_key(job, suite),
            )
            for suite in self._suites
        ]


def _failure_key(job: _Job, suite: Suite) -> str:
    return hashlib.sha256(f"{suite.name} {job.config.model_dump_json()}".encode()).hexdigest()
