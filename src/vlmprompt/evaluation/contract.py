"""What a suite is, and what it lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vlmprompt.data.records import Dataset
from vlmprompt.errors import CapabilityError, InputError, VlmPromptError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.subject import Subject
from vlmprompt.results.details import Details


@dataclass(frozen=True)
class MetricValue:
    """One number of a cell.

    Attributes:
        n: images behind it.
        note: what one must know to read it.
        of: cells that it is the mean of.
    """

    metric: str
    value: float
    n: int
    higher_is_better: bool = True
    note: str = ""
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """What a cell gives, if more than its numbers.

    Attributes:
        details: what was said of each image, kept in a file beside the results; the runner fills in suite and cell.
    """

    values: Sequence[MetricValue]
    details: Details | None = None


class MissingError(InputError):
    """What a cell needs is not there yet, such as other runs or the name of a data set."""


@dataclass(frozen=True)
class Reading:
    """Images that a cell will have its subject's method read.

    Attributes:
        local: with the local features that scores are given, see `PromptMethod.with_local`.
    """

    dataset: Dataset
    split: str = "test"
    local: bool = False


@dataclass(frozen=True)
class Cell:
    """A unit of work: done, skipped, or failed as a whole.

    Attributes:
        name: names it in rows, within the suite.
        metrics: what `compute` will give; a cell that has no numbers gets one row for each.
        compute: measures; gives a `Measurement` where it can say something of each image. Raises CapabilityError where
            the method cannot serve it, which makes it `not_applicable` with that reason, MissingError where something
            is wanted first (`missing`); any other error makes it `failed`.
        parts: what the numbers depend on beyond subject, data, suite and name, as JSON types.
        subject: who is measured, if not the context's own subject.
        enters: means that its numbers are a part of, by the names of their cells (up to a slash): a table shows
            the mean of what it shows, also where several evaluations measured it.
        reads: what it will read: then images that others read, too, go through the image tower once for all.
    """

    name: str
    metrics: tuple[str, ...]
    compute: Callable[[], Sequence[MetricValue] | Measurement]
    parts: Mapping[str, Any] = field(default_factory=dict)
    subject: Subject | None = None
    enters: tuple[str, ...] = ()
    reads: tuple[Reading, ...] = ()

    def measure(self) -> Measurement:
        """What `compute` gives, with or without details; raises what it raises."""
        given = self.compute()
        return given if isinstance(given, Measurement) else Measurement(given)


class Suite(Protocol):
    """What a plugin registers with `register_suites`: a class without constructor arguments.

    Its docstring says the protocol and its source; `version` goes up when its numbers change. One with a class
    method `of(argument)` is also called by `--suite <name>:<argument>`, and its instance's name says so. One that
    measures on other data sets beside the run's own says on which by `companions`, such as ("ood",); then `--domain`,
    `--target` and `--ood` name some for it. With `reads_scores = True` it takes the options of `--score-set`. One that
    reads `Context.siblings` says `needs_siblings = True`, so that a sweep keeps runs that differ in shots together.
    """

    name: str
    version: int

    def cells(self, context: Context) -> Sequence[Cell]:
        """The work for one subject; measures nothing yet."""


def impossible(name: str, metrics: tuple[str, ...], reason: str, *, subject: Subject | None = None) -> Cell:
    """A cell that is known beforehand to be not applicable."""
    return _unmeasured(name, metrics, CapabilityError(reason), subject)


def missing(name: str, metrics: tuple[str, ...], reason: str, *, subject: Subject | None = None) -> Cell:
    """A cell for which something is wanted first, as the reason says."""
    return _unmeasured(name, metrics, MissingError(reason), subject)


def _unmeasured(name: str, metrics: tuple[str, ...], error: VlmPromptError, subject: Subject | None) -> Cell:
    def compute() -> Sequence[MetricValue]:
        raise error

    return Cell(name, metrics, compute, {"reason": error.message}, subject)
