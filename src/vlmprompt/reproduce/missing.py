"""What a recipe needs that is not there: data sets, those they are evaluated with, class descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlmprompt.config.models import RunConfig
from vlmprompt.data import ood_sets
from vlmprompt.data.configured import load_run_dataset
from vlmprompt.data.coop.facts import Benchmark, benchmarks
from vlmprompt.data.load import load_measured, load_outliers, short_names
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import choose
from vlmprompt.errors import InputError
from vlmprompt.evaluation.load import load_suites, reads
from vlmprompt.methods.build import description_use
from vlmprompt.reproduce.configuration import configuration
from vlmprompt.reproduce.recipe import GridSpec, Recipe
from vlmprompt.reproduce.run import sweep_grid

BENCHMARK_SUITE = "ood:"
Effect = Literal["runs skipped", "runs fail", "numbers missing"]


@dataclass(frozen=True)
class Missing:
    """Something that is not there.

    Attributes:
        what: a data set's spec, an OOD set's name.
        effect: what that means for the recipe.
        reason: where it was looked for.
        hint: the next step.
    """

    what: str
    effect: Effect
    reason: str
    hint: str

    @property
    def line(self) -> str:
        """In a line, for people."""
        return f"{self.what} ({self.effect}): {self.reason}" + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class Present:
    """The data sets that runs are trained on and that are there, by spec; and everything that is not."""

    datasets: Mapping[str, Dataset]
    missing: tuple[Missing, ...]

    def skipped(self, recipe: Recipe) -> list[str]:
        """Names in result rows of data sets without which runs are skipped."""
        absent = {one.what for one in self.missing if one.effect == "runs skipped"}
        names = (short_names(spec.data) for spec in recipe.grid)
        return list(dict.fromkeys(name for found in names for what, name in found.items() if what in absent))


def look(recipe: Recipe, root: Path | None) -> Present:
    """Look for everything that a recipe reads; images are listed, none is opened.

    Args:
        root: parent folder of data sets.

    Raises:
        UsageError: a data set that nobody knows.
    """
    missing: dict[str, Missing] = {}
    datasets: dict[str, Dataset] = {}
    for spec in recipe.grid:
        for data in spec.data:
            configs = list(_configurations(data, spec))
            found = datasets.get(data) or _read(configs[0], root, missing)
            if found is not None:
                datasets[data] = found
                _look_for_descriptions(configs, found, missing)
            _look_beside(data, found, spec, root, missing)
    return Present(datasets, tuple(missing.values()))


def without(recipe: Recipe, present: Present) -> Recipe:
    """The recipe over the data sets that are there; grids of which none is left go.

    Raises:
        InputError: nothing is left.
    """
    kept = [[data for data in spec.data if data in present.datasets] for spec in recipe.grid]
    grids = [spec.model_copy(update={"data": data}) for spec, data in zip(recipe.grid, kept, strict=True) if data]
    if not grids:
        first = next(one for one in present.missing if one.effect == "runs skipped")
        raise InputError(f"none of the recipe's data sets is there; {first.what}: {first.reason}", hint=first.hint)
    return recipe.model_copy(update={"grid": grids})


def companions(data: str, dataset: Dataset | None, suite: str) -> list[str]:
    """Specs of what a suite measures on beside a data set's own test split.

    Args:
        dataset: the data set, or None where it is not there: of benchmarks the companions are known all the same.
    """
    kinds: Mapping[str, tuple[str, ...]] = {} if dataset is None else dataset.companions
    facts = benchmark_of(data)
    if dataset is None and facts is not None:
        kinds = facts.companions
    (measuring,) = load_suites([suite])
    return [spec for kind in reads(measuring) for spec in kinds.get(kind, ())]


def benchmark_of(data: str) -> Benchmark | None:
    """The facts of a benchmark data set, by its spec; None for other data sets."""
    return benchmarks().get(data.removeprefix("coop:"))


def _read(config: RunConfig, root: Path | None, missing: dict[str, Missing]) -> Dataset | None:
    try:
        return load_run_dataset(config, root)
    except InputError as error:
        missing[config.data] = Missing(config.data, "runs skipped", error.message, error.hint or "")
        return None


def _look_beside(
    data: str, dataset: Dataset | None, spec: GridSpec, root: Path | None, missing: dict[str, Missing]
) -> None:
    """Add companions and OOD sets that are not there."""
    for suite in spec.suites:
        for name, error in _absent(data, dataset, suite, root):
            missing.setdefault(name, Missing(name, "numbers missing", error.message, error.hint or ""))


def _absent(data: str, dataset: Dataset | None, suite: str, root: Path | None) -> Iterator[tuple[str, InputError]]:
    outliers = () if dataset is None else dataset.companions.get("ood", ())
    for name in companions(data, dataset, suite):
        try:
            (load_outliers if name in outliers else load_measured)(name, root=root)
        except InputError as error:
            yield name, error
    if suite.startswith(BENCHMARK_SUITE):
        for ood_set in ood_sets.benchmark(suite.removeprefix(BENCHMARK_SUITE)).ood_sets(root=root):
            try:
                ood_set.load()
            except InputError as error:
                yield f"OOD set {ood_set.name}", error


def _look_for_descriptions(configs: Sequence[RunConfig], dataset: Dataset, missing: dict[str, Missing]) -> None:
    """Add class descriptions that a method reads and that are not there; its runs fail without them."""
    for config in configs:
        use = description_use(config.method, config.options)
        if use == "never":
            continue
        try:
            choose(dataset, config.descriptions)
        except InputError as error:
            what = f"class descriptions of {config.data}"
            missing[what] = Missing(what, "runs fail", error.message, error.hint or "")


def _configurations(data: str, spec: GridSpec) -> Iterator[RunConfig]:
    """One of each method: neither shots nor seed matter to what is read."""
    first = spec.model_copy(update={"data": [data], "shots": spec.shots[:1]})
    for group in sweep_grid(first, [1]).groups():
        yield configuration(first, group[0]).run
