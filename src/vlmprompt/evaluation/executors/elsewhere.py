"""The driver's side of a sweep whose runs are carried out by an executor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from vlmprompt.errors import InputError, PluginError
from vlmprompt.evaluation.executors.contract import Executor, SweepOutcome
from vlmprompt.evaluation.executors.tasks import Plan, tasks_of
from vlmprompt.evaluation.grid import Job
from vlmprompt.evaluation.sweep_work import SweepWork
from vlmprompt.progress import Progress
from vlmprompt.results.rows import ResultRow


def carried_out(
    executor: Executor,
    plan: Plan,
    groups: Sequence[Sequence[Job]],
    work: SweepWork,
    progress: Progress,
    *,
    together: bool,
) -> Iterator[Job]:
    """Have runs carried out, and yield each that is done; `work` knows then what came of it.

    Args:
        together: see `tasks_of`.

    Raises:
        InputError: a worker refuses.
        PluginError: the executor has ended without all of its tasks.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    listed = list(tasks_of(plan, groups, together=together))
    left = {id(task): runs for task, runs in listed}
    with closing(executor.run([task for task, _ in listed], progress)) as outcomes:
        for task, outcome in outcomes:
            runs = left.pop(id(task), [])
            _settle(runs, outcome, work)
            yield from runs
    if left:
        name = next(iter(left.values()))[0].folder.name
        raise PluginError(
            f"{type(executor).__name__} ended without {len(left)} of its tasks, such as {name}",
            hint="the same command goes on from there; tell the author of the executor",
        )


def _settle(runs: Sequence[Job], outcome: SweepOutcome, work: SweepWork) -> None:
    if outcome.refused is not None:
        message, hint = outcome.refused
        raise InputError(message, hint=hint)
    for job in runs:
        if outcome.lost is not None:
            work.fail(job, InputError(outcome.lost))
        else:
            work.accept(job.folder, [ResultRow.model_validate(row) for row in outcome.rows.get(job.folder.name, ())])
