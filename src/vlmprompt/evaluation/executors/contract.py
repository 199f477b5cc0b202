"""The contract of an executor: it is given the tasks of a sweep, and gives what came of each.

A task, what a worker says while it is at work, and an outcome are plain data (JSON), so that they pass any pipe. What
a worker does is not an executor's business: `SweepWorker.do` carries a task out, in whatever process it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from vlmprompt.progress import Progress

# An event of a worker's progress, see `told`.
Event = Mapping[str, Any]
Send = Callable[[Event], None]


class ExecutorConfig(BaseModel):
    """Base of an executor's options: unknown keys are errors. Each field carries `description=`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


@dataclass(frozen=True)
class SweepTask:
    """A run of a sweep, or several that are measured beside one another.

    Attributes:
        name: of the run, for people.
        spec: all that a worker needs to know, as JSON has it.
    """

    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class SweepOutcome:
    """What came of a task.

    Attributes:
        rows: of each run that is done, by its name; as JSON has them. A run that failed has its rows, too.
        lost: why nothing came of it, though it was tried; its runs are then failed.
        refused: message and hint of an error that ends the whole sweep.
    """

    rows: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    lost: str | None = None
    refused: tuple[str, str | None] | None = None


class Executor:
    """What a plugin registers with `register_executors`: a subclass, made with its options.

    Used as a context manager around one sweep or several; `close` is called at the end. Whoever needs a package or a
    machine that may not be there says so in `__init__`, before anything is trained.
    """

    def __init__(self, config: ExecutorConfig) -> None:
        self.config = config

    def run(
        self, tasks: Sequence[SweepTask], progress: Progress
    ) -> Generator[tuple[SweepTask, SweepOutcome], None, None]:
        """Have every task carried out, in any order, and yield each with its outcome once it is done.

        A task may be begun again, by anybody: what is finished of it is found, an unfinished training is resumed. So
        one whose worker is gone is given to another. When the iteration is stopped early (by Ctrl-C), all workers are
        to stop, after they have saved what they have.

        Args:
            progress: is told what workers say, see `Retold`.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what was taken for `run`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
