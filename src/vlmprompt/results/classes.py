"""Accuracy class by class, and what a class is taken for, from what was said of each image.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmprompt.results.details import Details
from vlmprompt.results.numbers import MISSING
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.tables import SummaryTable

# Suites that may measure one and the same thing, the first of which is shown.
PREFERRED = ("accuracy", "base-to-new", "few-shot", "domain-generalization", "cross-dataset")
Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class ClassLine:
    """One class that has images.

    Attributes:
        n: its images.
        right: how many were told right.
        taken_for: the other class that most of its images were taken for, of equally many the first; None if none was.
        taken: how many.
    """

    name: str
    n: int
    right: int
    taken_for: str | None = None
    taken: int = 0

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.right / self.n


def confusion(details: Details) -> Counts:
    """(K,K) how many images of a class (down) were taken for which (across)."""
    n_classes = len(details.class_names)
    pairs = details.label.astype(np.int64) * n_classes + details.prediction
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class_accuracy(details: Details) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(K,) the share of each class's images that was told right; NaN for a class without images."""
    n_classes = len(details.class_names)
    images_K = np.bincount(details.label, minlength=n_classes)
    right_K = np.bincount(details.label[details.correct], minlength=n_classes)
    return np.where(images_K > 0, right_K / np.maximum(images_K, 1), np.nan)


def class_lines(details: Details) -> list[ClassLine]:
    """Every class that has images, the worst first; equally good ones in the order of the data set."""
    names, n_classes = details.class_names, len(details.class_names)
    images_K = np.bincount(details.label, minlength=n_classes).tolist()
    right_K = np.bincount(details.label[details.correct], minlength=n_classes).tolist()
    most = _most_frequent(details)
    lines = []
    for place, name in enumerate(names):
        if images_K[place]:
            other, count = most.get(place, (None, 0))
            taken_for = None if other is None else names[other]
            lines.append(ClassLine(name, images_K[place], right_K[place], taken_for, count))
    return sorted(lines, key=lambda line: line.accuracy)


def class_table(row: ResultRow, details: Details) -> SummaryTable:
    """The classes of one cell, as a table.

    Args:
        row: any of the cell.
    """
    lines = [
        (
            line.name,
            f"{line.n:,}",
            f"{100 * line.accuracy:.2f}",
            MISSING if line.taken_for is None else f"{line.taken_for} ({line.taken:,})",
        )
        for line in class_lines(details)
    ]
    at = "" if details.temperature is None else f", temperature {details.temperature:.4g}"
    title = f"classes of {row.run}, {row.method}: {row.suite} {row.cell} on {row.dataset}{at}"
    without = len(details.class_names) - len(lines)
    caption = "the worst first; how many were taken for it in brackets"
    words = "class without images is" if without == 1 else "classes without images are"
    caption += f"; {without:,} {words} left out" if without else ""
    return SummaryTable(title, ("class", "n", "accuracy (%)", "most often taken for"), 1, tuple(lines), caption)


def once(cells: Iterable[tuple[ResultRow, Details]]) -> list[tuple[ResultRow, Details]]:
    """Cells without those that say the same of the same images of the same run again (few-shot beside accuracy)."""
    ordered = sorted(cells, key=lambda cell: _rank(cell[0].suite))
    found: dict[tuple[object, ...], tuple[ResultRow, Details]] = {}
    for row, details in ordered:
        said = details.dataset, details.class_names, details.ids, details.label.tobytes(), details.prediction.tobytes()
        found.setdefault((row.run, row.method, row.shots, *said), (row, details))
    return list(found.values())


def _rank(suite: str) -> int:
    return PREFERRED.index(suite) if suite in PREFERRED else len(PREFERRED)


def _most_frequent(details: Details) -> dict[int, tuple[int, int]]:
    """Class -> the other one that most of its images were taken for, and how many."""
    wrong = ~details.correct
    pairs = np.stack([details.label[wrong], details.prediction[wrong]], axis=1)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True) if len(pairs) else (pairs, np.zeros(0, int))
    most: dict[int, tuple[int, int]] = {}
    for (label, other), count in zip(distinct.tolist(), counts.tolist(), strict=True):
        if count > most.get(label, (0, 0))[1]:
            most[label] = other, count
    return most


def as_records(cells: Sequence[tuple[ResultRow, Details]]) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [
        {
            "run": row.run,
            "method": row.method,
            "suite": row.suite,
            "cell": row.cell,
            "dataset": details.dataset,
            "classes": [
                {
                    "name": line.name,
                    "n": line.n,
                    "accuracy": line.accuracy,
                    "taken_for": line.taken_for,
                    "taken": line.taken,
                }
                for line in class_lines(details)
            ],
        }
        for row, details in cells
    ]
