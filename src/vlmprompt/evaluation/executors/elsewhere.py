"""The driver's side of sweeps whose runs are carried out by an executor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Protocol

from vlmprompt.errors import InputError, PluginError
from vlmprompt.evaluation.executors.contract import Executor, SweepOutcome, SweepTask
from vlmprompt.evaluation.executors.tasks import Plan, tasks_of
from vlmprompt.evaluation.grid import Job
from vlmprompt.evaluation.sweep_work import SweepWork
from vlmprompt.progress import Progress
from vlmprompt.results.rows import ResultRow


class Shared(Protocol):
    """The part of a `Sweep` that executors are given, and that takes what comes of it."""

    @property
    def plan(self) -> Plan: ...
    @property
    def groups(self) -> Sequence[Sequence[Job]]: ...
    @property
    def work(self) -> SweepWork: ...
    @property
    def together(self) -> bool: ...


def carried_out(executor: Executor, sweeps: Sequence[Shared], progress: Progress) -> Iterator[Job]:
    """Have the runs of all sweeps carried out at once, and yield each that is done; its sweep's `work` knows then what
    came of it.

    Raises:
        InputError: a worker refuses.
        PluginError: the executor has ended without all of its tasks.
    """
    tasks: list[SweepTask] = []
    left: dict[int, tuple[list[Job], SweepWork]] = {}
    for one in sweeps:
        one.plan.out.mkdir(parents=True, exist_ok=True)
        for task, runs in tasks_of(one.plan, one.groups, together=one.together):
            tasks.append(task)
            left[id(task)] = runs, one.work
    with closing(executor.run(tasks, progress)) as outcomes:
        for task, outcome in outcomes:
            if (found := left.pop(id(task), None)) is not None:
                runs, work = found
                _settle(runs, outcome, work)
                yield from runs
    if left:
        name = next(iter(left.values()))[0][0].folder.name
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
