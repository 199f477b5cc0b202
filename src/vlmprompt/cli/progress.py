"""Progress as people see it: bars on a terminal, a plain line every few seconds elsewhere; all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vlmprompt import shown
from vlmprompt.cli import output
from vlmprompt.progress import duration as duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_EVERY_S = 5.0


class RunningTask:
    """One piece of work: counts, and knows its rate and the time left.

    Args:
        show: called after each report.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        show: Callable[[RunningTask], None],
        clock: Callable[[], float],
    ) -> None:
        self.description, self.total, self.unit = shown.line(description), total, unit
        self.done = 0
        self.fields: dict[str, float | str] = {}
        self._show, self._clock = show, clock
        self._start = clock()

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """Count `amount` more units; `fields` replace those of the same name."""
        self.done += amount
        self.fields |= fields
        self._show(self)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the task began."""
        return self._clock() - self._start

    def stats(self) -> str:
        """The fields and the rate: `loss 0.532  acc 0.81  12.3 step/s`."""
        parts = [f"{key} {shown.line(v) if isinstance(v, str) else format(v, '.4g')}" for key, v in self.fields.items()]
        if self.done and self.elapsed_s > 0:
            parts.append(f"{self.done / self.elapsed_s:.3g} {self.unit}/s")
        return "  ".join(parts)

    def line(self) -> str:
        """The whole report in one plain line, with the time left or, at the end, the time taken."""
        count = str(self.done) if self.total is None else f"{self.done}/{self.total}"
        parts = [f"{self.description}: {count} {self.unit}", self.stats()]
        if self.total and 0 < self.done < self.total:
            parts.append(f"ETA {duration(self.elapsed_s / self.done * (self.total - self.done))}")
        else:
            parts.append(f"in {duration(self.elapsed_s)}")
        return "  ".join(part for part in parts if part)


class CliProgress:
    """Implements `vlmprompt.progress.Progress` for one command. Tasks may be nested.

    Bars vanish when their task ends, and a line with the totals stays.

    Args:
        bars: draw bars; None: if stderr is a terminal.
        clock: seconds, monotonic.
    """

    def __init__(self, *, bars: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._use_bars = sys.stderr.isatty() if bars is None else bars
        self._bars: RichProgress | None = None
        self._clock = clock

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[RunningTask]:
        """Show a piece of work while it runs.

        Args:
            total: units to come, or None where nobody knows.
            unit: what is counted, such as "image" or "step".
        """
        watch = self._bar if self._use_bars else self._lines
        with watch(description, total) as show:
            task = RunningTask(description, total, unit, show, self._clock)
            yield task
        self.message(task.line())

    def message(self, text: str) -> None:
        """A line for the user."""
        # While bars are drawn, rich has replaced sys.stderr and moves the line above them.
        print(shown.line(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A line for the user that the JSON document keeps in `warnings`."""
        output.warn(text)

    @contextmanager
    def _lines(self, description: str, total: int | None) -> Iterator[Callable[[RunningTask], None]]:
        last = self._clock()

        def show(task: RunningTask) -> None:
            nonlocal last
            if self._clock() - last >= LINE_EVERY_S and task.done != task.total:
                last = self._clock()
                self.message(task.line())

        yield show

    @contextmanager
    def _bar(self, description: str, total: int | None) -> Iterator[Callable[[RunningTask], None]]:
        outermost = self._bars is None
        bars = self._bars = self._bars or _rich_bars()
        bars.start()
        bar = bars.add_task(shown.line(description), total=total, stats="")
        try:
            yield lambda task: bars.update(bar, completed=task.done, stats=task.stats())
        finally:
            bars.remove_task(bar)
            if outermost:
                bars.stop()
                self._bars = None


def _rich_bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[stats]}", markup=False),
        TimeRemainingColumn(),
    )
    # stdout is left alone: it may be a file, and results must reach it.
    return Progress(*columns, console=Console(file=sys.stderr), transient=True, redirect_stdout=False)
