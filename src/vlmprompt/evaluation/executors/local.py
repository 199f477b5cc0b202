"""The executor `local`: processes of this machine, each with a run at a time."""

from __future__ import annotations

import os
import queue
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence

from vlmprompt.errors import InputError
from vlmprompt.evaluation.executors.at_once import runs_at_once
from vlmprompt.evaluation.executors.children import Child, Said, Start, start_process, surroundings
from vlmprompt.evaluation.executors.contract import Event, Executor, ExecutorConfig, SweepOutcome, SweepTask
from vlmprompt.evaluation.executors.local_config import LocalConfig
from vlmprompt.evaluation.executors.told import Retold, briefly
from vlmprompt.progress import Progress
from vlmprompt.shown import several

# Workers that a task may cost: one that has died with it thrice is not given it again.
MOST_DEATHS = 3


class LocalExecutor(Executor):
    """Starts its processes when there are tasks, and keeps them, with what they have loaded, until it is closed."""

    config: LocalConfig

    def __init__(self, config: ExecutorConfig, *, start: Start = start_process) -> None:
        """An executor.

        Args:
            config: see `LocalConfig`.
            start: starts a process with this environment.
        """
        super().__init__(config)
        self._start = start
        self._children: dict[int, Child] = {}
        self._heard: queue.Queue[tuple[Child, Said]] = queue.Queue()

    def run(
        self, tasks: Sequence[SweepTask], progress: Progress
    ) -> Generator[tuple[SweepTask, SweepOutcome], None, None]:
        """See `Executor.run`.

        Raises:
            InputError: no worker can be started; or see `runs_at_once`.
            UsageError: see `runs_at_once`.
        """
        waiting, deaths, brief = deque(tasks), Counter[int](), briefly([task.name for task in tasks])
        devices = cuda_devices(tasks)
        jobs = min(self.config.jobs or len(devices) or _without_devices(tasks), max(len(tasks), 1))
        if jobs > 1:
            each = several(threads_each(jobs), "thread", "threads")
            progress.message(f"{jobs} runs at once, {each} each; with --jobs 1 one after the other")
        try:
            while waiting or self._busy():
                for child in self._idle(len(waiting), jobs, devices):
                    task = waiting.popleft()
                    child.give(task, Retold(progress, brief[task.name]))
                child, said = self._heard.get()
                if self._children.get(child.number) is not child:
                    continue  # of a sweep before, which was stopped
                if said is None:
                    yield from self._bury(child, waiting, deaths, progress)
                elif isinstance(said, str):
                    child.last_line = said or child.last_line
                    progress.message(f"{child.name}: {said}")
                else:
                    yield from _hear(child, said)
        except BaseException:  # Ctrl-C, or whoever iterates wants no more
            self.close()
            raise

    def close(self) -> None:
        """Stop all workers, and wait until they have saved what they have; a second Ctrl-C ends them at once."""
        children = [*self._children.values()]
        self._children.clear()
        for child in children:
            child.dismiss()
        try:
            for child in children:
                child.end()
        except KeyboardInterrupt:
            for child in children:
                child.kill()
            raise
        finally:
            for child in children:
                child.take_back()

    def _busy(self) -> bool:
        return any(child.task is not None for child in self._children.values())

    def _idle(self, wanted: int, jobs: int, devices: list[str]) -> list[Child]:
        """Workers that may be given a task, started where there are not enough; at most so many."""
        free = [child for child in self._children.values() if child.task is None]
        places = [number for number in range(jobs) if number not in self._children]
        for number in places[: max(wanted - len(free), 0)]:
            environment = surroundings(number, devices, threads_each(jobs))
            free.append(Child(number, self._start(environment), self._heard))
            self._children[number] = free[-1]
        return free[:wanted]

    def _bury(
        self, child: Child, waiting: deque[SweepTask], deaths: Counter[int], progress: Progress
    ) -> Iterator[tuple[SweepTask, SweepOutcome]]:
        """A worker has ended: another is to take over what it was at, unless that has cost too many."""
        del self._children[child.number]
        how, task = child.end(), child.take_back()
        if not child.ready:
            words = f"; its last words: {child.last_line}" if child.last_line else ""
            raise InputError(
                f"{child.name} cannot work: it {how}{words}", hint="without --executor the sweep runs in this process"
            )
        if task is None:
            return
        deaths[id(task)] += 1
        if deaths[id(task)] < MOST_DEATHS:
            progress.warn(f"{child.name} {how}; another goes on with {task.name}")
            waiting.appendleft(task)
            return
        lost = f"{MOST_DEATHS} workers ended while they were at it; the last {how} (too little memory is a usual cause)"
        yield task, SweepOutcome(lost=lost)


def _hear(child: Child, event: Event) -> Iterator[tuple[SweepTask, SweepOutcome]]:
    if event["kind"] == "ready":
        child.ready = True
    elif event["kind"] == "outcome":
        task = child.take_back()
        assert task is not None
        refused = event["refused"]
        yield task, SweepOutcome(event["rows"], event["lost"], None if refused is None else (refused[0], refused[1]))
    elif child.retold is not None:
        child.retold.tell(event)


def cuda_devices(tasks: Sequence[SweepTask]) -> list[str]:
    """What there is for tasks that name no device of their own, as CUDA_VISIBLE_DEVICES names it."""
    import torch

    if not all(task.spec["plan"]["runtime"]["device"] in ("auto", "cuda") for task in tasks):
        return []
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]


def _without_devices(tasks: Sequence[SweepTask]) -> int:
    """Workers, if nobody says how many: as many as where no executor is named."""
    named = {task.spec["plan"]["runtime"]["device"] for task in tasks}
    return min((runs_at_once(len(tasks), device) for device in named), default=1)


def threads_each(jobs: int) -> int:
    """What each worker has of the threads that this process would have."""
    import torch

    return max(torch.get_num_threads() // jobs, 1)
