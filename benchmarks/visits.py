"""How many files of the packages one training step enters, and by how many calls: what a reader of a step must know."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from benchmarks.frame import Row
from vlmprompt.api import Runtime, train
from vlmprompt.progress import SilentProgress, Task

METHODS, STEP = ("coop", "gallop"), 3  # of a step on features of images, behind what only the first one does


def measure(repeats: int = 1) -> list[Row]:
    """The third step of a run on features of images; every repetition enters the same."""
    return [row(method) for method in METHODS]


def row(method: str) -> Row:
    """Files and calls of a step of a method."""
    watch = Watch()
    with TemporaryDirectory() as folder:
        where = Runtime(runs_dir=Path(folder), workers=0, device="cpu")
        train(method, "doodles-animals", shots=4, batch_size=8, max_steps=STEP + 1, runtime=where, progress=watch)
    figures = {"files entered": len(watch.calls), "calls": watch.calls.total()}
    return Row("visits", f"a step of {method}", figures)


class Watch(SilentProgress):
    """Counts calls between the reports of two steps, by the file of what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self._steps = 0

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Task]:
        """Itself of the loop; other work goes by unseen."""
        with super().task(description, total, unit=unit) as task:
            yield self if description == "training" else task

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """A step has ended."""
        self._steps += amount
        sys.setprofile(self._count if self._steps == STEP - 1 else None)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and str(Path("src", "vlmprompt")) in frame.f_code.co_filename:
            self.calls[frame.f_code.co_filename] += 1
