"""How long it takes to see which other class a description names, with few classes and with many."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from benchmarks.frame import Mark, Row, side_by_side
from vlmprompt.describe.naming import OtherNames

FEW, MANY, LINES, MOST_MS = 100, 20_000, 2_000, 0.02


def measure(repeats: int = 5) -> list[Row]:
    """Milliseconds of processor time a line."""
    few, many = (reading(classes) for classes in (FEW, MANY))
    few()
    many()
    few_ms, many_ms = (s / LINES * 1000 for s in side_by_side({few: repeats, many: repeats}, time.process_time))
    figures = {f"ms a line of {FEW} classes": few_ms, f"ms a line of {MANY:,} classes": many_ms}
    marks = (Mark(f"ms a line of {MANY:,} classes", many_ms, MOST_MS, at_least=False),)
    return [Row("review", f"{LINES:,} lines of ten words", figures, marks)]


def reading(classes: int) -> Callable[[], object]:
    """A search of all lines, in which names of the classes are as rare or frequent as any other words."""
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(3, 8))) for _ in range(4_000)]
    names = dict.fromkeys(" ".join(chance.choices(words, k=chance.randint(1, 3))) for _ in range(classes))
    lines = [" ".join(chance.choices(words, k=10)) for _ in range(LINES)]
    others = OtherNames(list(names))
    return lambda: [others.named_in(line, 0) for line in lines]
