"""What the grids of a recipe will measure, as their suites list it before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.configured import load_run_dataset
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, VlmPromptError, did_you_mean
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.subject import Subject
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.score_config import ScoreOptions
from vlmprompt.progress import SilentProgress
from vlmprompt.reproduce.configuration import configuration
from vlmprompt.reproduce.recipe import Column, GridSpec, Recipe
from vlmprompt.reproduce.run import sweep_grid
from vlmprompt.results.store import EVERYTHING

FIELDS = ("suite", "data", "shots", "cell", "metric")


@dataclass(frozen=True)
class Offer:
    """A number that will be measured.

    Attributes:
        data, cell, metric: None: any, as what they are of is not there to be asked.
        shots: None where nothing is trained, so that it stands in columns of any number.
        reference: measured beside the grid's own runs, whatever their shots.
    """

    suite: str
    data: str | None
    shots: int | None
    cell: str | None
    metric: str | None
    reference: bool = False

    def serves(self, field: str, wanted: object) -> bool:
        """Whether a column that wants this of it would show it; a number of shots must be one that is trained with."""
        if wanted is None:
            return True
        return getattr(self, field) in (None, wanted) and not (field == "shots" and self.reference)


def require_columns(recipe: Recipe, runtime: Runtime) -> None:
    """Hold every column against what will be measured.

    Raises:
        InputError: one shows nothing; names it, and what the grids offer in its place.
        UsageError, PluginError: a suite that nobody provides, a configuration that is not allowed.
    """
    offered = list(dict.fromkeys(offers(recipe, runtime)))
    for column in recipe.columns:
        if column.suite:
            _require(column, offered)


def offers(recipe: Recipe, runtime: Runtime) -> Iterator[Offer]:
    """Everything that the grids of a recipe measure."""
    resources = Resources(runtime, SilentProgress())
    datasets: dict[str, Dataset | None] = {}
    listed: set[object] = set()  # grids that differ in methods and their options alone measure the same
    for spec in recipe.grid:
        for data, suite in product(spec.data, load_suites(spec.suites)):
            work = (data, suite.name, spec.setting, spec.protocol, *spec.scores, *spec.shots)
            if work in listed:
                continue
            listed.add(work)
            configs = _configurations(spec, data)
            if data not in datasets:
                datasets[data] = _dataset(configs[0], runtime)
            yield from _of_suite(suite, datasets[data], configs, resources, spec.scores)


def _configurations(spec: GridSpec, data: str) -> list[RunConfig]:
    """One of each number of shots: what is measured depends neither on the seed nor, but for references, on methods."""
    one = spec.model_copy(update={"data": [data]})
    groups = list(sweep_grid(one, [1]).groups())
    chosen = max(groups, key=len)
    return [configuration(one, flags).run for flags in chosen]


def _dataset(config: RunConfig, runtime: Runtime) -> Dataset | None:
    try:
        return load_run_dataset(config, runtime.root)
    except InputError:
        return None


def _of_suite(
    suite: Suite, dataset: Dataset | None, configs: list[RunConfig], resources: Resources, scores: ScoreOptions
) -> Iterator[Offer]:
    shots = {config.shots: _subject(config) for config in configs}
    trained = next(iter(shots.values()))
    reference = Subject("", trained.config, None, None, "", _unbuilt, reference=True)
    for subject in (trained, reference):
        cells = None if dataset is None else _cells(suite, subject, dataset, resources, scores)
        for number in shots if subject is trained else [None]:
            if dataset is None or cells is None:
                yield Offer(suite.name, None, number, None, None, subject.reference)
            else:
                yield from (Offer(suite.name, dataset.name, number, *cell, subject.reference) for cell in cells)


def _subject(config: RunConfig) -> Subject:
    return Subject("", config, config.shots, config.seed, "", _unbuilt)


def _unbuilt() -> PromptMethod:
    raise InputError("nothing is measured yet")


def _cells(
    suite: Suite, subject: Subject, dataset: Dataset, resources: Resources, scores: ScoreOptions
) -> list[tuple[str, str]] | None:
    """(cell, metric) of all; None where something that they are named after is not there."""
    absent: list[str] = []

    def load(spec: str) -> Dataset:
        try:
            return resources.dataset(spec, protocol=subject.config.protocol)
        except VlmPromptError:
            absent.append(spec)
            raise

    context = Context(subject, dataset, resources.bank(subject.config), load=load, score_options=scores)
    try:
        cells = [(cell.name, metric) for cell in suite.cells(context) for metric in cell.metrics]
    except Exception:
        return None  # the runner tells of it, as of any cell that fails
    return None if absent or any(cell == EVERYTHING for cell, _ in cells) else cells


def _require(column: Column, offered: Iterable[Offer]) -> None:
    left = list(offered)
    for field in FIELDS:
        wanted = getattr(column, field)
        matching = [offer for offer in left if offer.serves(field, wanted)]
        if not matching:
            known = {str(value) for offer in left if (value := getattr(offer, field)) is not None}
            raise InputError(
                f"column {column.header!r} shows nothing: no grid of the recipe measures {field} {wanted!r}"
                + ("" if field == "suite" else f" of suite {column.suite}"),
                hint=f"{field}: {did_you_mean(str(wanted), known)}",
            )
        left = matching
