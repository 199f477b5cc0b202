"""Cells of suites that measure on several data sets and give the mean of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from statistics import fmean

from vlmprompt.data.records import Dataset
from vlmprompt.errors import UsageError, VlmPromptError, did_you_mean
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement, MetricValue, Reading, missing
from vlmprompt.evaluation.subject import KINDS

MEAN = "mean"
Measure = Callable[[Dataset], Measurement]


def listed(companions: Mapping[str, str | Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Kind -> specs of data sets, where somebody has given one spec or several of each kind.

    Raises:
        UsageError: there is no such kind.
    """
    given = companions or {}
    for kind in given:
        if kind not in KINDS:
            raise UsageError(f"there are no companions of kind {kind!r}", hint=did_you_mean(kind, KINDS))
    return {kind: (specs,) if isinstance(specs, str) else tuple(specs) for kind, specs in given.items()}


def companion_cells(
    context: Context,
    kind: str,
    flag: str,
    metrics: tuple[str, ...],
    measure: Measure,
    *,
    prepare: Callable[[Dataset], Dataset] = lambda dataset: dataset,
    reads: Callable[[Dataset], Dataset] = lambda dataset: dataset,
) -> list[Cell]:
    """One cell for each companion of a kind, and "mean": their plain average, as the field reports it.

    Args:
        kind: see `Dataset.companions`.
        flag: of the command line, by which others are named.
        metrics: what it gives.
        measure: the numbers on one of them; raises CapabilityError where the method cannot serve it.
        prepare: applied to each once it is read; such as `Context.described`.
        reads: what of each is read.
    """
    specs = context.companions(kind)
    if not specs:
        reason = f"data set {context.dataset.spec} names no {kind}; name some with {flag} SPEC"
        return [missing(MEAN, metrics, reason)]
    found = [_found(context, spec, prepare) for spec in specs]
    once = cache(lambda i: _measured(found[i], measure))
    names = _names(specs, found)
    digests = [_digest(one) if isinstance(one, Dataset) else None for one in found]
    readings = [_readings(one, reads) for one in found]
    cells = [
        Cell(name, metrics, lambda i=i: once(i), {"data": digests[i]}, enters=(MEAN,), reads=readings[i])  # type: ignore[misc]
        for i, name in enumerate(names)
    ]
    mean = partial(_means_of, names, once)
    return [*cells, Cell(MEAN, metrics, mean, {"data": digests}, reads=tuple(chain(*readings)))]


def _found(context: Context, spec: str, prepare: Callable[[Dataset], Dataset]) -> Dataset | VlmPromptError:
    """A data set, or why there is none: the others are measured all the same."""
    try:
        return prepare(context.companion(spec))
    except VlmPromptError as error:
        return error


def _readings(found: Dataset | VlmPromptError, reads: Callable[[Dataset], Dataset]) -> tuple[Reading, ...]:
    """What is read of it; nothing where that fails, as its cell will tell."""
    try:
        return () if isinstance(found, VlmPromptError) else (Reading(reads(found)),)
    except VlmPromptError:
        return ()


def _digest(dataset: Dataset) -> str | list[object]:
    """Of all that a number on it depends on."""
    digest = dataset.measured_digest
    return digest if dataset.descriptions is None else [digest, dataset.descriptions]


def _measured(found: Dataset | VlmPromptError, measure: Measure) -> Measurement:
    if isinstance(found, VlmPromptError):
        raise found
    return measure(found)


def _names(specs: Sequence[str], found: Sequence[Dataset | VlmPromptError]) -> list[str]:
    """Short names where they tell the data sets apart, else specs."""
    names = [one.name if isinstance(one, Dataset) else spec for spec, one in zip(specs, found, strict=True)]
    return [spec if names.count(name) > 1 else name for spec, name in zip(specs, names, strict=True)]


def _means_of(names: Sequence[str], once: Callable[[int], Measurement]) -> list[MetricValue]:
    """Of each metric."""
    measured = [once(number) for number in range(len(names))]
    return [_mean(names, values) for values in zip(*(one.values for one in measured), strict=True)]


def _mean(names: Sequence[str], values: Sequence[MetricValue]) -> MetricValue:
    value, n = fmean(v.value for v in values), sum(v.n for v in values)
    return replace(values[0], value=value, n=n, note="", of=tuple(names))
