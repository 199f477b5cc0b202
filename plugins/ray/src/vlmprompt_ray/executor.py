"""The driver's side: which actor is at which task, and what becomes of the tasks of those that are lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from vlmprompt.api import Executor, ExecutorConfig, Progress, Retold, SweepOutcome, SweepTask
from vlmprompt_ray.actor import Actor
from vlmprompt_ray.cluster import connect, environment, gpus_each, import_ray, room
from vlmprompt_ray.config import RayConfig

# Actors that a task may cost: one that was lost with thrice is not given out again.
MOST_LOSSES = 3
STOP_S = 60.0  # for actors to save what they have, when the sweep is stopped
Done = tuple[SweepTask, SweepOutcome]


class _Work:
    """A task that an actor is at.

    Attributes:
        begun: the actor has said something, so it has a place in the cluster.
    """

    def __init__(self, actor: Any, task: SweepTask, progress: Progress) -> None:
        self.actor, self.task, self.begun = actor, task, False
        self.retold = Retold(progress, task.name)
        self.events = actor.carry_out.options(num_returns="streaming").remote(task.name, dict(task.spec))


class RayExecutor(Executor):
    """Actors of a Ray cluster, kept with what they have loaded until it is closed."""

    config: RayConfig

    def __init__(self, config: ExecutorConfig) -> None:
        super().__init__(config)
        self._ray: Any = import_ray()
        self._ours = connect(self._ray, self.config)
        self._idle: list[Any] = []
        self._at_work: dict[Any, _Work] = {}

    def run(self, tasks: Sequence[SweepTask], progress: Progress) -> Generator[Done, None, None]:
        """See `Executor.run`.

        Raises:
            InputError: the cluster has no room for a run.
        """
        gpu = gpus_each(self._ray, self.config)
        most = room(self._ray, self.config, gpu)
        waiting, losses = deque(tasks), Counter[int]()
        try:
            while waiting or self._at_work:
                waiting.extend(self._taken_back())
                while waiting and len(self._at_work) < most:
                    actor = self._idle.pop() if self._idle else self._actor(gpu)
                    work = _Work(actor, waiting.popleft(), progress)
                    self._at_work[work.events] = work
                ready, _ = self._ray.wait(list(self._at_work), num_returns=1, fetch_local=False)
                for events in ready:
                    yield from self._hear(self._at_work[events], waiting, losses, progress)
        except BaseException:  # Ctrl-C, or whoever iterates wants no more
            self._stop()
            raise

    def close(self) -> None:
        """End the actors, and leave the cluster."""
        for actor in [*self._idle, *(work.actor for work in self._at_work.values())]:
            self._ray.kill(actor)
        self._idle.clear()
        self._at_work.clear()
        if self._ours:
            self._ray.shutdown()
            self._ours = False

    def _actor(self, gpu: float) -> Any:
        remote = self._ray.remote(Actor).options(
            num_cpus=self.config.cpu,
            num_gpus=gpu,
            max_concurrency=2,  # `stop` is called while `carry_out` is at work
            runtime_env={"env_vars": environment(self.config)},
        )
        return remote.remote()

    def _hear(self, work: _Work, waiting: deque[SweepTask], losses: Counter[int], progress: Progress) -> Iterator[Done]:
        """Take one event of an actor; or it has ended its task, or is lost."""
        try:
            event: Mapping[str, Any] = self._ray.get(next(work.events))
            work.begun = True
        except StopIteration:
            self._end(work, reuse=True)
            return
        except self._ray.exceptions.RayError as error:
            yield from self._lose(work, next(iter(str(error).splitlines()), ""), waiting, losses, progress)
            return
        if event["kind"] == "outcome":
            rows, lost, refused = (event[name] for name in ("rows", "lost", "refused"))
            yield work.task, SweepOutcome(rows, lost, refused)
        elif event["kind"] == "bug":
            yield from self._lose(work, event["text"], waiting, losses, progress)
        else:
            work.retold.tell(event)

    def _taken_back(self) -> list[SweepTask]:
        """Tasks of actors that have no place yet, for those that are idle: they may hold the very place."""
        found = [work for work in self._at_work.values() if not work.begun][: len(self._idle)]
        for work in found:
            self._end(work, reuse=False)
        return [work.task for work in found]

    def _lose(
        self, work: _Work, why: str, waiting: deque[SweepTask], losses: Counter[int], progress: Progress
    ) -> Iterator[Done]:
        """An actor is gone with its process or node: its task is given to another, unless that has cost too many."""
        self._end(work, reuse=False)
        losses[id(work.task)] += 1
        if losses[id(work.task)] < MOST_LOSSES:
            progress.warn(f"an actor was lost ({why}); another goes on with {work.task.name}")
            waiting.appendleft(work.task)
            return
        yield work.task, SweepOutcome(lost=f"{MOST_LOSSES} actors were lost while they were at it; the last: {why}")

    def _end(self, work: _Work, *, reuse: bool) -> None:
        work.retold.close()
        del self._at_work[work.events]
        if reuse:
            self._idle.append(work.actor)
        else:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(work.actor)

    def _stop(self) -> None:
        """Let those that are at work save what they have."""
        with suppress(self._ray.exceptions.RayError):
            stops = [work.actor.stop.remote() for work in self._at_work.values()]
            self._ray.wait(stops, num_returns=len(stops), timeout=STOP_S)
            for work in self._at_work.values():
                self._drain(work)
        for work in list(self._at_work.values()):
            self._end(work, reuse=False)

    def _drain(self, work: _Work) -> None:
        """Wait for its end."""
        with suppress(StopIteration):
            while self._ray.wait([work.events], timeout=STOP_S)[0]:
                self._ray.get(next(work.events))
