"""What a recipe is: TOML files, shipped in `recipes/` or the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlmprompt.config.models import Setting
from vlmprompt.config.toml import parse_toml, read_toml
from vlmprompt.errors import InputError, UsageError, did_you_mean

SUFFIX = ".toml"
# Measured beside the methods of a grid, unless it says not to.
REFERENCE_NAMES = ("zeroshot", "linear_probe")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridSpec(_Model):
    """Runs to train, and the suites that measure them; the same keys as flags of `vlmprompt sweep`."""

    methods: list[str] = Field(min_length=1)
    data: list[str] = Field(min_length=1)
    shots: list[int] = Field(default=[16], min_length=1)
    seeds: list[int] | None = Field(None, min_length=1, description="in place of the recipe's")
    suites: list[str] = Field(min_length=1)
    backbone: str | None = None
    setting: Setting | None = None
    protocol: str | None = None
    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict, description="as after --set, such as depth = 9")
    scores: dict[str, dict[str, Any]] = Field(default_factory=dict, description="options, as after --score-set")
    label: str | None = Field(None, description="name of these runs in the table, in place of the method's")
    reference: bool = Field(True, description="zero-shot and linear probe beside them")

    @property
    def names(self) -> list[str]:
        """What its runs are called in the table."""
        return [self.label] if self.label else self.methods


class ColumnSpec(_Model):
    """A column of the table, or with `each` or several `shots` a family of columns.

    It shows a measured number (`suite`, `cell`, `metric`), or is worked out from columns above it: a plain mean of
    those whose headers match `mean_of` (such as "* base"), or the harmonic mean of two. In all texts {} stands for
    one of `each`, in headers and in `mean_of` {shots} for the number of shots.
    """

    header: str
    suite: str = ""
    cell: str = ""
    metric: str = "top1"
    data: str | None = Field(None, description="of this data set only, by the name in result rows")
    shots: int | list[int] | None = Field(None, description="of runs with these shots only")
    each: list[str] = Field(default_factory=list)
    mean_of: str = ""
    harmonic_of: tuple[str, str] | None = None
    table: str = Field("", description="title of the table that it stands in, of recipes that make several")
    methods: list[str] = Field(default_factory=list, description="its table has these methods and labels only")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        ways = [bool(self.suite and self.cell), bool(self.mean_of), self.harmonic_of is not None]
        if sum(ways) != 1:
            raise ValueError("a column needs suite and cell, or mean_of, or harmonic_of")
        return self

    def columns(self) -> Iterator[Column]:
        """The columns that it stands for."""
        for shots in self.shots if isinstance(self.shots, list) else [self.shots]:
            for item in self.each or [""]:
                fill = partial(_fill, item=item, shots=shots)
                parts = None if self.harmonic_of is None else (fill(self.harmonic_of[0]), fill(self.harmonic_of[1]))
                data = None if self.data is None else fill(self.data)
                mean_of, header = fill(self.mean_of), fill(self.header)
                cell, methods = fill(self.cell), tuple(self.methods)
                yield Column(header, self.suite, cell, self.metric, data, shots, mean_of, parts, self.table, methods)


@dataclass(frozen=True)
class Column:
    """One column; see `ColumnSpec`."""

    header: str
    suite: str
    cell: str
    metric: str
    data: str | None
    shots: int | None
    mean_of: str = ""
    harmonic_of: tuple[str, str] | None = None
    table: str = ""
    methods: tuple[str, ...] = ()


class PublishedSpec(_Model):
    """Figures as a paper prints them, in percent.

    Attributes:
        table: where they are printed.
        columns: headers of the recipe's columns.
        decimals: of the printed figures.
        rows: method (or label) -> a figure for each column, "" where none is printed.
        misprints: method -> columns whose printed mean is not that of the printed figures it is the mean of.
    """

    table: str
    columns: list[str] = Field(min_length=1)
    decimals: int = 2
    rows: dict[str, list[float | Literal[""]]] = Field(min_length=1)
    misprints: dict[str, list[str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for method, figures in self.rows.items():
            if len(figures) != len(self.columns):
                raise ValueError(f"{method} has {len(figures)} figures for {len(self.columns)} columns of {self.table}")
        return self


class GainSpec(_Model):
    """A difference that a paper states between two methods, in points of a column."""

    of: str
    over: str
    column: str
    value: float
    table: str


class Recipe(_Model):
    """A table to be made.

    Attributes:
        about: one sentence for lists.
        note: what a reader must know of the numbers; printed below them.
        paper: whose figures stand beside the measured ones.
        departures: in what the runs differ from the paper's; printed below the numbers.
        seeds: of every run that has one.
        max_seconds: what it may take on a small machine, for lists; None: not known.
        parts: recipes whose grids and columns it has as well, each in a table of its own. Their columns should name
            their data set, since all rows are looked through for them.
    """

    title: str
    about: str
    note: str = ""
    paper: str = ""
    departures: list[str] = Field(default_factory=list)
    seeds: list[int] = Field(default=[1, 2, 3], min_length=1)
    max_seconds: int | None = None
    parts: list[str] = Field(default_factory=list)
    grid: list[GridSpec] = Field(min_length=1)
    column: list[ColumnSpec] = Field(min_length=1)
    published: list[PublishedSpec] = Field(default_factory=list)
    gain: list[GainSpec] = Field(default_factory=list)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in order."""
        return tuple(column for spec in self.column for column in spec.columns())

    @property
    def compares(self) -> bool:
        """Whether measured numbers are put beside a paper's."""
        return bool(self.published or self.gain)

    @property
    def names(self) -> list[str]:
        """What runs are called in the table, in order."""
        return list(dict.fromkeys(name for spec in self.grid for name in spec.names))

    def seeds_of(self, spec: GridSpec, given: Sequence[int] = ()) -> list[int]:
        """The seeds of a grid; `given` ones take the place of the recipe's and of the grid's."""
        return list(given or spec.seeds or self.seeds)

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        headers = {column.header for column in self.columns}
        methods = {*self.names, *REFERENCE_NAMES}
        shown = [name for column in self.columns for name in column.methods]
        used = [(header, spec.table) for spec in self.published for header in spec.columns]
        used += [(gain.column, gain.table) for gain in self.gain]
        unknown = [f"column {header!r} of {where}" for header, where in used if header not in headers]
        named = [(name, spec.table) for spec in self.published for name in (*spec.rows, *spec.misprints)]
        named += [(name, gain.table) for gain in self.gain for name in (gain.of, gain.over)]
        unknown += [f"method {name!r} of {where}" for name, where in named if name not in methods]
        unknown += [f"method {name!r} of a column" for name in shown if name not in methods]
        if unknown:
            raise ValueError(f"{unknown[0]} is none of the recipe's")
        if not self.compares and any(not column.suite for column in self.columns):
            raise ValueError("means of columns are worked out only beside published figures")
        if self.compares and any(column.table or column.methods for column in self.columns):
            raise ValueError("published figures stand in one table, with all methods")
        return self


def _fill(text: str, *, item: str, shots: int | None) -> str:
    return text.replace("{}", item).replace("{shots}", str(shots))


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX))


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a file by its path, with its parts.

    Raises:
        UsageError: no such recipe, or no such part.
        InputError: the file is no recipe; names what is wrong in it.
    """
    recipe = _read(name)
    parts = [_read(part) for part in recipe.parts]
    for part, its_name in zip(parts, recipe.parts, strict=True):
        if part.parts or part.compares:
            what = "parts of its own" if part.parts else "published figures"
            raise InputError(
                f"recipe {name} cannot have {its_name} as a part, which has {what}", hint="name other recipes as parts"
            )
    return _with_parts(recipe, parts) if parts else recipe


def _read(name: str) -> Recipe:
    """A recipe as it is written."""
    source: Traversable | Path = Path(name) if name.endswith(SUFFIX) else _folder() / f"{name}{SUFFIX}"
    if not source.is_file():
        raise UsageError(f"there is no recipe {name!r}", hint=did_you_mean(name, recipe_names()))
    try:
        content = read_toml(source) if isinstance(source, Path) else parse_toml(source.read_text(encoding="utf-8"))
        return Recipe.model_validate(content)
    except OSError as error:
        raise InputError(f"recipe {name} cannot be read: {error.strerror}", hint="check its permissions") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {name} is not TOML: {error}", hint="correct that line") from error
    except ValidationError as error:
        raise InputError(
            f"recipe {name}: {_first(error)}", hint="'vlmprompt reproduce' lists those that work"
        ) from None


def _with_parts(recipe: Recipe, parts: Sequence[Recipe]) -> Recipe:
    """The recipe with its parts behind it: their columns in tables of their titles, of their methods and labels."""
    grids, columns = list(recipe.grid), list(recipe.column)
    for part in parts:
        grids += [grid.model_copy(update={"seeds": grid.seeds or part.seeds}) for grid in part.grid]
        shown = [*part.names, *(REFERENCE_NAMES if any(grid.reference for grid in part.grid) else ())]
        columns += [
            column.model_copy(update={"table": column.table or part.title, "methods": column.methods or shown})
            for column in part.column
        ]
    return recipe.model_copy(update={"grid": grids, "column": columns})


def _first(error: ValidationError) -> str:
    problem: Mapping[str, Any] = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}"


def _folder() -> Traversable:
    return resources.files("vlmprompt.reproduce") / "recipes"
