"""A grid of runs, each trained and measured, into one results file.

In one process, so towers are loaded and test images read once; or by an executor in several, which may have the runs of
several sweeps at once. A rerun of the same sweep goes on where the last one stopped: finished trainings and
measurements are skipped, an unfinished training is resumed.

Any number of processes may carry out one sweep in one folder: each takes a run that nobody has, trains or measures
it, and takes the next, until none is left. What a process that died has left is taken over. Processes that share no
folder take a part of the grid each, by arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vlmprompt.claims.work import shared
from vlmprompt.config.models import Runtime
from vlmprompt.config.resolve import Resolved
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.executors.contract import Executor
from vlmprompt.evaluation.executors.elsewhere import carried_out
from vlmprompt.evaluation.executors.tasks import Plan
from vlmprompt.evaluation.failures import kept_in
from vlmprompt.evaluation.grid import Grid, Job, jobs
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.evaluation.shard import Shard
from vlmprompt.evaluation.subjects import REFERENCES
from vlmprompt.evaluation.sweep_work import SweepWork
from vlmprompt.methods.score_config import ScoreOptions
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.start import is_finished

RUNS_DIR = "runs"


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
    score_options: ScoreOptions | None = None,
    contents: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
    shard: Shard | None = None,
    worker: bool = False,
    executor: Executor | None = None,
) -> list[ResultRow]:
    """Train and measure every run of a grid.

    Args:
        resolve: run-level flags (`method`, `data`, `shots`, `seed`, perhaps `setting`) -> configuration.
        suites: names of registered suites.
        out: gets `results.jsonl`, `runs/` and `references/`.
        reference: add zero-shot and linear probe, unless they are in the grid themselves.
        force: train and measure again what is done, alone in the folder.
        companions, score_options, contents: see `runner.evaluate`.
        resources: towers and features of images to share with other sweeps.
        shard: do this part alone.
        worker: leave what other processes have to them, instead of waiting for it.
        executor: has the runs carried out elsewhere; None: they are in this process.

    Returns:
        The rows of what was done of the grid, each number once, references last. A run whose training failed has a
        failed row for each suite (see `incomplete`).

    Raises:
        UsageError: an empty axis, a configuration that is not allowed, an unknown suite, or two precisions; or an
            executor with `force`.
        InputError, PluginError: the executor cannot go on.
        Interrupted: by Ctrl-C; everything finished is kept.
    """
    progress = progress or SilentProgress()
    one = Sweep(
        grid,
        resolve,
        suites,
        resources or Resources(runtime, progress),
        out=out,
        reference=reference,
        measured_on={"companions": companions, "score_options": score_options, "contents": contents},
        sharing=Sharing(force, shard, worker),
    )
    carry_out([one], executor, progress, kept=out)
    return one.rows()


@dataclass(frozen=True)
class Sharing:
    """What of a grid this process does, and whether beside others; see `sweep`."""

    force: bool = False
    shard: Shard | None = None
    worker: bool = False


class Sweep:
    """A grid of runs in a folder, and what came of them.

    Attributes:
        plan: what its runs have in common, for an executor.
        groups: the runs that are to be done here.
        together: runs of a group are measured beside one another.
        force: they are alone in the folder.

    Args:
        resources: towers and features of images; its progress is told what is doubtful in the grid.
        measured_on: `companions`, `score_options` and `contents`, see `runner.evaluate`.
        grid, resolve, suites, out, reference: see `sweep`.

    Raises:
        UsageError: see `sweep`.
    """

    def __init__(
        self,
        grid: Grid,
        resolve: Callable[..., Resolved],
        suites: Sequence[str],
        resources: Resources,
        *,
        out: Path,
        reference: bool,
        measured_on: Mapping[str, object],
        sharing: Sharing,
    ) -> None:
        loaded = load_suites(suites)
        self.groups = chosen(jobs(grid, resolve, out / RUNS_DIR), loaded, sharing.shard)
        if not self.groups:
            resources.progress.message(f"{sharing.shard} of the grid holds no run: there are more parts than runs")
        beside = [name for name in REFERENCES if name not in grid.methods] if reference else []
        self.plan = Plan(Path.cwd(), out, resources.runtime, suites, beside, sharing.worker, measured_on)
        self.together = needs_siblings(loaded)
        self.force = sharing.force
        self._resources, self._methods = resources, grid.methods

    @cached_property
    def work(self) -> SweepWork:
        """Of its runs. Asked for once the folder may be worked in: what others measure until then is there before."""
        return SweepWork(self.plan, self._resources, force=self.force)

    def rows(self) -> list[ResultRow]:
        """Those of what was done, each number once, in the order of the grid, references last."""
        order = {method: place for place, method in enumerate(self._methods)}
        return sorted(self.work.rows(self.groups), key=lambda row: order.get(row.method, len(order)))


def carry_out(sweeps: Sequence[Sweep], executor: Executor | None, progress: Progress, *, kept: Path) -> None:
    """Do the runs of all sweeps: one after the other in this process, or by an executor, which has all of them at once.

    Args:
        kept: the folder in which an interruption says the results are.

    Raises:
        UsageError, InputError, PluginError, Interrupted: see `sweep`.
    """
    if executor is not None and any(one.force for one in sweeps):
        raise UsageError(
            "--force has the folder of a sweep to itself, and workers share it",
            hint="leave the executor out, give another --out, or remove the folder first",
        )
    runs = sum(len(group) for one in sweeps for group in one.groups)
    with ExitStack() as stack:
        for out, force in {one.plan.out: one.force for one in sweeps}.items():
            stack.enter_context(shared(out, progress, alone=force))
        task = stack.enter_context(progress.task("sweep", runs, unit="run"))
        stack.enter_context(kept_in(kept / RESULTS_FILE))
        for job in _done(sweeps, executor, progress):
            task.advance(run=job.folder.name)


def _done(sweeps: Sequence[Sweep], executor: Executor | None, progress: Progress) -> Iterator[Job]:
    """Each run that is done."""
    if executor is not None:
        yield from carried_out(executor, sweeps, progress)
        return
    for one in sweeps:
        yield from one.work.carry_out(one.groups)


def untrained(grid: Grid, resolve: Callable[..., Resolved], out: Path) -> int:
    """How many runs of a grid are yet to be trained.

    Raises:
        UsageError: see `grid.jobs`.
    """
    return sum(not is_finished(RunFolder(job.folder)) for group in jobs(grid, resolve, out / RUNS_DIR) for job in group)


def chosen(groups: list[list[Job]], suites: Sequence[Suite], shard: Shard | None) -> list[Sequence[Job]]:
    """What a process is to do of a grid.

    Runs that differ in shots alone stay together where a suite reads one beside the others.
    """
    if shard is None:
        return [*groups]
    return shard.of(groups if needs_siblings(suites) else [[job] for group in groups for job in group])


def needs_siblings(suites: Sequence[Suite]) -> bool:
    """Whether a suite reads runs that differ in shots alone beside one another."""
    return any(getattr(suite, "needs_siblings", False) for suite in suites)
