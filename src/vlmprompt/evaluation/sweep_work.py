"""The work of a sweep: the steps of each run, done or found done, and what came of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vlmprompt.claims.claim import BusyError, claim
from vlmprompt.claims.work import take
from vlmprompt.errors import Interrupted
from vlmprompt.evaluation.executors.tasks import Plan
from vlmprompt.evaluation.failures import failure_key, failure_rows, reason
from vlmprompt.evaluation.grid import Job
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import REFERENCES_DIR, RESULTS_FILE, evaluate
from vlmprompt.progress import Progress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import EVERYTHING, ResultStore
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.run import train
from vlmprompt.training.start import hold, is_finished

log = logging.getLogger(__name__)


def training(job: Job) -> str:
    """The name of the claim of whoever trains a run."""
    return f"train {job.folder.name}"


def measuring(job: Job) -> str:
    """The name of the claim of whoever measures it."""
    return f"measure {job.folder.name}"


@contextmanager
def _left_to_others(worker: bool, progress: Progress) -> Iterator[None]:
    """A worker ends where others hold all that is left."""
    try:
        yield
    except BusyError as error:
        if not worker:
            raise
        progress.message(f"what is left is in other hands, such as {error.thing}: {error.owner} has it")


@dataclass(frozen=True)
class _Step:
    """Something to do for a run; raises BusyError where it cannot be done now.

    Attributes:
        last: nothing comes after it.
    """

    job: Job
    act: Callable[[Job], None]
    last: bool


class SweepWork:
    """What the runs of a sweep share, and what came of each.

    Args:
        plan: what they have in common as plain data.
        force: what is there is done anew.
    """

    def __init__(self, plan: Plan, resources: Resources, *, force: bool) -> None:
        self._plan = plan
        self._ledger = Ledger(ResultStore(plan.out / RESULTS_FILE), fresh=force)
        self._rows: dict[Path, Sequence[ResultRow]] = {}
        self._trained: set[Path] = set()
        self._looked: set[Path] = set()
        self._suites = load_suites(plan.suites)
        self._resources = resources
        self._force = force

    def steps(self, groups: Sequence[Sequence[Job]]) -> Iterator[_Step]:
        """Train the runs of each group, then measure each: a curve over shots needs them all."""
        for group in groups:
            yield from (_Step(job, self._train, False) for job in group)
            yield from (_Step(job, partial(self._measure, group), True) for job in group)

    def carry_out(self, groups: Sequence[Sequence[Job]]) -> Iterator[Job]:
        """Do the steps of some runs, and yield each run that is done; a worker ends where others hold all that is left.

        Raises:
            Interrupted: by Ctrl-C.
        """
        steps, progress = self.steps(groups), self._resources.progress
        with _left_to_others(self._plan.worker, progress):
            for step in take(steps, lambda step: step.act(step.job), progress, patient=not self._plan.worker):
                if step.last:
                    yield step.job

    def found(self, folder: Path) -> Sequence[ResultRow]:
        """The rows of a run; none of one that others have."""
        return self._rows.get(folder, ())

    def accept(self, folder: Path, rows: Sequence[ResultRow]) -> None:
        """Take what another process found of a run."""
        self._rows[folder] = rows

    def fail(self, job: Job, error: BaseException) -> None:
        """Keep an error as the rows of its run."""
        self._resources.progress.warn(f"run {job.folder.name} failed: {reason(error)}")
        self._rows[job.folder] = failure_rows(job, self._suites, error)
        self._ledger.append(self._rows[job.folder])

    def rows(self, groups: Sequence[Sequence[Job]]) -> list[ResultRow]:
        """Every number once, in the order of the grid, beside the first run that has it: whoever measured it."""
        found: dict[tuple[str, str], ResultRow] = {}
        for job in (job for group in groups for job in group):
            for row in self.found(job.folder):  # a worker leaves some to others
                found.setdefault((row.key, row.metric), row.model_copy(update={"run": job.folder.name}))
        return list(found.values())

    def _train(self, job: Job) -> None:
        with claim(self._plan.out, training(job), f"training of {job.folder.name}"):
            self._attempt(job, self._do_train)
        self._trained.add(job.folder)

    def _measure(self, group: Sequence[Job], job: Job) -> None:
        for other in group:
            if other.folder not in self._trained:
                raise BusyError(f"training of {other.folder.name}", None)
        with claim(self._plan.out, measuring(job), f"measuring of {job.folder.name}"):
            self._attempt(job, self._do_measure)

    def _attempt(self, job: Job, step: Callable[[Job], None]) -> None:
        """Do one step, unless the run has failed by now, here or elsewhere; an error becomes its rows."""
        failures = self._failures(job)
        if failures is not None:
            self._rows[job.folder] = failures
            return
        try:
            step(job)
        except (KeyboardInterrupt, Interrupted, BusyError):
            raise
        except BaseException as error:  # a plugin that calls sys.exit ends its run, and not the work of hours
            log.debug("run %s failed", job.folder, exc_info=True)
            self.fail(job, error)

    def _do_train(self, job: Job) -> None:
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

    def _do_measure(self, job: Job) -> None:
        patient = job.folder in self._looked and not self._plan.worker  # first to the other runs, then wait here
        self._looked.add(job.folder)
        self._rows[job.folder] = evaluate(
            job.folder,
            [suite.name for suite in self._suites],
            self._resources.runtime,
            reference=self._plan.references,
            force=self._force,
            ledger=self._ledger,
            patient=patient,
            references_dir=self._plan.out / REFERENCES_DIR,
            **self._plan.measured_on,
            resources=self._resources,
            progress=self._resources.progress,
        )

    def _failures(self, job: Job) -> list[ResultRow] | None:
        """Rows of a run that has failed as a whole since this sweep began."""
        self._ledger.refresh()
        found = [self._ledger.rows(failure_key(job, suite), [EVERYTHING]) for suite in self._suites]
        return [row for rows in found for row in rows or ()] if all(found) else None
