"""What a suite gives is looked at where it is taken: a slip would else fail late, in the name of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from vlmprompt.digests import digest_of
from vlmprompt.errors import PluginError
from vlmprompt.evaluation.contract import Cell, Measurement, MetricValue, Reading
from vlmprompt.evaluation.subject import KINDS, Subject
from vlmprompt.registry import Entry
from vlmprompt.results.details import Details


def require_suite(entry: Entry, suite: Any, spec: str) -> None:
    """What a suite says of itself.

    Args:
        spec: by which it was asked for, which is its name.

    Raises:
        PluginError: its name is another, its version no whole number, or it reads companions that there are not.
    """
    if getattr(suite, "name", None) != spec:
        raise _wrong(entry, f"calls itself {getattr(suite, 'name', None)!r}", f"write name = {spec!r}")
    if type(getattr(suite, "version", None)) is not int:
        raise _wrong(entry, f"has version {getattr(suite, 'version', None)!r}", "write version = 1")
    kinds: Any = getattr(suite, "companions", ())
    if isinstance(kinds, str) or not set(kinds) <= set(KINDS):
        step = f"a tuple of {', '.join(map(repr, KINDS))}, such as ('ood',)"
        raise _wrong(entry, f"has companions = {kinds!r}", step)


def cells_of(entry: Entry, given: Any) -> list[Cell]:
    """The cells that a suite lists.

    Raises:
        PluginError: they are no cells, or two are the same work.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise _wrong(entry, f"cells() gives a {type(given).__name__}", "return a list of Cell")
    cells = list(given)
    seen = set()
    for place, cell in enumerate(cells, 1):
        _require_cell(entry, cell, place)
        work = (cell.name, digest_of(cell.parts), _subject(cell.subject))
        if work in seen:
            raise _wrong(entry, f"lists cell {cell.name!r} twice", "name them apart, or give them different parts")
        seen.add(work)
    return cells


def measurement_of(entry: Entry, cell: Cell, given: Any) -> Measurement:
    """What a cell's `compute` gives, with or without details, its numbers as floats.

    Raises:
        PluginError: it is neither a `Measurement` nor a list of `MetricValue`, or a value is no number.
    """
    found = given if isinstance(given, Measurement) else Measurement(given)
    values: Any = found.values
    who = f"cell {cell.name!r}"
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise _wrong(entry, f"{who} gives a {type(values).__name__}", "return a list of MetricValue")
    for value in values:
        if not isinstance(value, MetricValue):
            what = f"{who} gives a {type(value).__name__} among its values"
            raise _wrong(entry, what, "return a list of MetricValue")
        number, n = _plain(value)
        if not isinstance(number, Real):
            what = f"{who} gives a {type(number).__name__} as {value.metric}"
            raise _wrong(entry, what, "value is a number: float(...) makes it one")
        if type(n) is not int:
            raise _wrong(entry, f"{who} gives n = {n!r} for {value.metric}", "n is the number of images, an int")
    details: Any = found.details
    if details is not None and not isinstance(details, Details):
        raise _wrong(entry, f"{who} gives details that are a {type(details).__name__}", "leave them out")
    return replace(found, values=[replace(value, value=float(value.value)) for value in values])


def _plain(value: MetricValue) -> tuple[Any, Any]:
    """What a plugin has put in the place of the number and of the number of images."""
    return value.value, value.n


def _require_cell(entry: Entry, cell: Any, place: int) -> None:
    if not isinstance(cell, Cell):
        raise _wrong(entry, f"cells() gives a {type(cell).__name__} in place {place}", "return a list of Cell")
    name: Any = cell.name
    metrics: Any = cell.metrics
    compute: Any = cell.compute
    if not isinstance(name, str) or not name:
        raise _wrong(entry, f"the name of cell {place} is {name!r}", "a cell is named by a text")
    if isinstance(metrics, str) or not metrics or not all(isinstance(metric, str) for metric in metrics):
        step = "a tuple of names, such as ('top1',)"
        raise _wrong(entry, f"cell {cell.name!r} has metrics = {metrics!r}", step)
    if not callable(compute):
        step = "a function without arguments"
        raise _wrong(entry, f"compute of cell {cell.name!r} is a {type(compute).__name__}", step)
    reads: Any = cell.reads
    if not isinstance(reads, tuple) or not all(isinstance(one, Reading) for one in reads):
        raise _wrong(entry, f"cell {cell.name!r} has reads = {reads!r}", "a tuple of Reading, or nothing")
    parts: Any = cell.parts
    try:
        if not isinstance(parts, Mapping):
            raise TypeError
        digest_of(parts)
    except (TypeError, ValueError) as error:
        step = "a table of JSON types: texts, numbers, lists, tables"
        raise _wrong(entry, f"cell {cell.name!r} has parts = {parts!r}", step) from error


def _subject(subject: Subject | None) -> object:
    return None if subject is None else (subject.run, subject.config.model_dump_json(), subject.digest)


def _wrong(entry: Entry, what: str, step: str) -> PluginError:
    return PluginError(f"{entry.told}: {what}", hint=f"{step}; {entry.author}")
