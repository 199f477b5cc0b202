"""Predictions as text, a batch at a time: an aligned table, CSV, or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from vlmprompt import shown
from vlmprompt.predict.prediction import Prediction

Write = Callable[[str], object]
Row = dict[str, Any]


class Writer(Protocol):
    """Takes rows as they come."""

    def add(self, rows: Sequence[Row]) -> None:
        """Write some, or keep them a while."""

    def close(self) -> None:
        """Write what was kept."""


def rows_of(said: Prediction, places: Sequence[Path] | None = None) -> list[Row]:
    """What is said of each picture, as JSON has it.

    Keys: `picture`, `class`, `label` (index of the class), `probability`, `others` (the next likeliest classes, each
    with `class` and `probability`); where it was asked for also `score` and `verdict`, `set` (names of classes),
    `sorted` (where the picture was put).
    """
    names = said.class_names
    scores = None if said.scores_B is None else _plain(said.scores_B.numpy())
    verdicts, sets = said.verdicts, said.sets
    rows: list[Row] = []
    for i, (source, ranked) in enumerate(zip(said.sources, _ranked(said), strict=True)):
        (label, probability), *others = ranked
        row: Row = {"picture": source, "class": names[label], "label": label, "probability": probability}
        row["others"] = [{"class": names[other], "probability": p} for other, p in others]
        if scores is not None and verdicts is not None:
            row |= {"score": scores[i], "verdict": verdicts[i]}
        if sets is not None:
            row["set"] = sets[i]
        if places is not None:
            row["sorted"] = str(places[i])
        rows.append(row)
    return rows


class JsonLines:
    """An object a line, of the keys of `rows_of`."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def add(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        for row in rows:
            self._write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        """Nothing is kept."""


class Csv:
    """A line for each picture: `others` as pairs of columns (`class_2`, `probability_2`), names of `set` by "; "."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._head: list[str] | None = None

    def add(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        for row in rows:
            flat = _flat(row)
            if self._head is None:
                self._head = list(flat)
                lines.writerow(self._head)
            lines.writerow(flat.values())
        self._write(text.getvalue())

    def close(self) -> None:
        """Nothing is kept."""


class Lines:
    """What a terminal shows of each picture, in columns; tables of so many rows at a time, so that memory stays.

    Args:
        show: prints a table: heads and rows.
        most: rows of a table.
    """

    def __init__(self, show: Callable[[Sequence[str], Sequence[Sequence[str]]], None], most: int) -> None:
        self._show, self._most = show, most
        self._rows: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        self._rows += rows
        while len(self._rows) > self._most:
            self._print(self._most)

    def close(self) -> None:
        """See `Writer`."""
        if self._rows:
            self._print(len(self._rows))

    def _print(self, count: int) -> None:
        part, self._rows = self._rows[:count], self._rows[count:]
        heads = ["picture", "class", "p"]
        heads += ["then"] * any(row["others"] for row in part)
        heads += ["score", "verdict"] * ("verdict" in part[0]) + ["set"] * ("set" in part[0])
        self._show(heads, [list(_cells(row, heads)) for row in part])


def _cells(row: Row, heads: Sequence[str]) -> Iterator[str]:
    yield shown.line(row["picture"])
    yield row["class"]
    yield f"{row['probability']:.3f}"
    if "then" in heads:
        yield ", ".join(f"{other['class']} {other['probability']:.3f}" for other in row["others"])
    if "verdict" in heads:
        yield f"{row['score']:.6g}"
        yield row["verdict"]
    if "set" in heads:
        yield ", ".join(row["set"]) or "none"


def _flat(row: Row) -> dict[str, Any]:
    """A row as columns."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key == "others":
            for place, other in enumerate(value, 2):
                found |= {f"class_{place}": other["class"], f"probability_{place}": other["probability"]}
        else:
            found[key] = "; ".join(value) if key == "set" else value
    return found


def _ranked(said: Prediction) -> Iterator[list[tuple[int, float]]]:
    """The likeliest classes of each picture with their probabilities; of equal ones the first, as everywhere."""
    order_BK = said.logits_BK.argsort(dim=-1, descending=True, stable=True)[:, : said.shown]
    values = said.probabilities_BK.gather(1, order_BK).numpy()
    for labels, row in zip(order_BK.tolist(), values, strict=True):
        yield list(zip(labels, _plain(row), strict=True))


def _plain(values: Any) -> list[float]:
    """Numbers of single precision with the fewest digits that tell them apart."""
    return [float(str(value)) for value in values]
