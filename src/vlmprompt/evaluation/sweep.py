"""A grid of runs, each trained and measured, into one results file.

In one process, so towers are loaded and test images read once; or by an executor in several. A rerun of the same
sweep goes on where the last one stopped: finished trainings and measurements are skipped, an unfinished training is
resumed.

Any number of processes may carry out one sweep in one folder: each takes a run that nobody has, trains or measures
it, and takes the next, until none is left. What a process that died has left is taken over. Processes that share no
folder take a part of the grid each, by arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    if executor is not None and force:
        raise UsageError(
            "--force has the folder of a sweep to itself, and workers share it",
            hint="leave the executor out, give another --out, or remove the folder first",
        )
    loaded = load_suites(suites)
    groups = chosen(jobs(grid, resolve, out / RUNS_DIR), loaded, shard)
    if not groups:
        progress.message(f"{shard} of the grid holds no run: there are more parts than runs")
    beside = [name for name in REFERENCES if name not in grid.methods] if reference else []
    resources = resources or Resources(runtime, progress)
    beside_data = {"companions": companions, "score_options": score_options, "contents": contents}
    with shared(out, progress, alone=force), progress.task("sweep", sum(map(len, groups)), unit="run") as task:
        work = SweepWork(suites, beside, resources, out, force=force, worker=worker, measured_on=beside_data)
        with kept_in(out / RESULTS_FILE):
            if executor is None:
                done = work.carry_out(groups)
            else:
                plan = Plan(Path.cwd(), out, resources.runtime, suites, beside, worker, beside_data)
                done = carried_out(executor, plan, groups, work, progress, together=needs_siblings(loaded))
            for job in done:
                task.advance(run=job.folder.name)
    order = {method: place for place, method in enumerate(grid.methods)}
    return sorted(work.rows(groups), key=lambda row: order.get(row.method, len(order)))


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
