"""What a suite is, what it lists, and who is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vlmprompt.config.models import RunConfig
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.errors import CapabilityError, InputError, VlmPromptError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.results.details import Details

if TYPE_CHECKING:
    from vlmprompt.data.records import Dataset
    from vlmprompt.evaluation.context import Context


# Kinds of data sets that a suite may measure on beside the run's own; see `Dataset.companions`.
KINDS = ("domains", "targets", "ood")


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


def _no_siblings() -> Mapping[int | None, Subject]:
    return {}


@dataclass(frozen=True)
class Subject:
    """A method to be measured, and what its rows say of it.

    Attributes:
        run: name of the evaluated run (a reference names the run that it stands beside).
        config: everything that determined it.
        shots: images a class that it learned from; None = all, or nothing was learned (then no seed either); 0 =
            nothing was learned, but numbers depend on the seed (the order of test streams).
        seed: None where nothing depends on it.
        digest: of what was learned; empty where `config` and the data determine it.
        build: the method, ready for inference, over the label space that it was trained on.
        siblings: shots -> the same with these shots, as far as there are any; includes itself.
        sources: where the values of `config` came from, by dotted key.
        reference: stands beside a run, and is measured where the run is.
        descriptions: what it reads of the classes, if it reads any.
        state: which state of its training it is, in words; empty where nothing chose or measured it.
        temperature: that its logits are divided by in `Context.predict`; None: they are taken as they are.
    """

    run: str
    config: RunConfig
    shots: int | None
    seed: int | None
    digest: str
    build: Callable[[], PromptMethod] = field(compare=False)
    siblings: Callable[[], Mapping[int | None, Subject]] = field(default=_no_siblings, compare=False)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    reference: bool = False
    descriptions: DescriptionFile | None = None
    state: str = ""
    temperature: float | None = None

    @property
    def untrained(self) -> bool:
        """Whether the method learned nothing, so that shots mean nothing, and a seed is that of test streams alone."""
        return self.shots == 0 or (self.shots is None and self.seed is None)


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
