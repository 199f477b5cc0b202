"""Suites, the cells that they list, and what a cell gives."""

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
        n: number of images behind it.
        note: a remark needed to understand the number.
        of: names of the cells of which it is the mean.
    """

    metric: str
    value: float
    n: int
    higher_is_better: bool = True
    note: str = ""
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """The result of a cell that gives more than numbers.

    Attributes:
        details: predictions for each image, stored in a file next to the results; the runner fills in suite and cell.
    """

    values: Sequence[MetricValue]
    details: Details | None = None


class MissingError(InputError):
    """Something that a cell needs is not there yet, such as other runs or the name of a data set."""


@dataclass(frozen=True)
class Reading:
    """Images that a cell's method will read.

    Attributes:
        local: also read the local features that scores use, see `PromptMethod.with_local`.
    """

    dataset: Dataset
    split: str = "test"
    local: bool = False


@dataclass(frozen=True)
class Cell:
    """A unit of work: done, skipped, or failed as a whole.

    Attributes:
        name: identifies it in rows, within the suite.
        metrics: names of the metrics that `compute` will give; a cell without numbers gets one row for each.
        compute: does the measuring, and returns a `Measurement` if it has predictions for each image. It raises
            CapabilityError if the cell does not apply to the method (`not_applicable`, with that reason), and
            MissingError if something is needed first (`missing`); any other error makes the cell `failed`.
        parts: what the numbers depend on besides subject, data, suite and name, as JSON types.
        subject: the subject that is measured, if not the context's own.
        enters: means that include its numbers, by the names of their cells (up to a slash): a table shows the mean of
            the numbers that it shows, even if several evaluations measured them.
        reads: images that it will read. Images that other cells read too then go through the image tower only once.
    """

    name: str
    metrics: tuple[str, ...]
    compute: Callable[[], Sequence[MetricValue] | Measurement]
    parts: Mapping[str, Any] = field(default_factory=dict)
    subject: Subject | None = None
    enters: tuple[str, ...] = ()
    reads: tuple[Reading, ...] = ()

    def measure(self) -> Measurement:
        """The result of `compute`, as a `Measurement` even if it has no details; raises the errors of `compute`."""
        given = self.compute()
        return given if isinstance(given, Measurement) else Measurement(given)


class Suite(Protocol):
    """A measurement protocol. A plugin registers with `register_suites` a class without constructor arguments.

    The docstring of the class gives the protocol and its source; `version` goes up when its numbers change. Optional:

    - a class method `of(argument)`, which `--suite <name>:<argument>` calls; the instance's name includes the argument;
    - `companions`, such as ("ood",): kinds of other data sets that it measures on, named by `--domain`, `--target` and
      `--ood`;
    - `reads_scores = True`, if it uses the options of `--score-set`;
    - `needs_siblings = True`, if it reads `Context.siblings`, so that a sweep keeps runs that differ in shots together.
    """

    name: str
    version: int

    def cells(self, context: Context) -> Sequence[Cell]:
        """The cells for one subject; measures nothing yet."""


def impossible(name: str, metrics: tuple[str, ...], reason: str, *, subject: Subject | None = None) -> Cell:
    """A cell that is known beforehand not to apply."""
    return _unmeasured(name, metrics, CapabilityError(reason), subject)


def missing(name: str, metrics: tuple[str, ...], reason: str, *, subject: Subject | None = None) -> Cell:
    """A cell that needs something first, as the reason says."""
    return _unmeasured(name, metrics, MissingError(reason), subject)


def _unmeasured(name: str, metrics: tuple[str, ...], error: VlmPromptError, subject: Subject | None) -> Cell:
    def compute() -> Sequence[MetricValue]:
        raise error

    return Cell(name, metrics, compute, {"reason": error.message}, subject)
