"""Parts of a measurement that share a time: what fails is a row, what does not fit is a row, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.frame import Row


@dataclass(frozen=True)
class Part:
    """Something to measure.

    Attributes:
        name: for the table.
        share: seconds that it may take; it is asked for no further row once they are over.
        rows: measures one row after the other, each when it is asked for.
    """

    name: str
    share: float
    rows: Callable[[], Iterator[Row]]


@dataclass(frozen=True)
class Line:
    """A row of the table, or why there is none.

    Attributes:
        part: its name.
        status: "ok", "missed" (a mark), "failed" or "skipped".
        row: what was measured; None for a part that failed or was skipped.
        reason: of a failure or of what was skipped.
    """

    part: str
    status: str
    row: Row | None = None
    reason: str = ""


@dataclass
class Budget:
    """Seconds for all parts together.

    Args:
        seconds: from now on.
        clock: gives seconds; tests bring their own.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.clock()

    @property
    def left(self) -> float:
        """Seconds; below 0 when they are over."""
        return self.start + self.seconds - self.clock()

    def measure(self, parts: Sequence[Part], seen: Callable[[Line], None] = lambda line: None) -> list[Line]:
        """All parts in turn; a part is not started where less than its share is left.

        A row that is being measured is not broken off: what it takes over its share is missing to the parts behind it.

        Args:
            seen: called with each line as it comes.
        """
        lines = []
        for part in parts:
            for line in self._lines(part):
                seen(line)
                lines.append(line)
        return lines

    def _lines(self, part: Part) -> Iterator[Line]:
        if self.left < part.share:
            yield Line(part.name, "skipped", reason=f"needs {part.share:.0f} s, {max(0, self.left):.0f} s are left")
            return
        end = self.clock() + part.share
        try:
            for row in part.rows():
                yield Line(part.name, "ok" if row.passed else "missed", row)
                if self.clock() > end:
                    yield Line(part.name, "skipped", reason=f"anything further: its {part.share:.0f} s are over")
                    return
        except Exception as error:  # whatever fails in one part must not hide what the others measure
            yield Line(part.name, "failed", reason=f"{type(error).__name__}: {error}")
