"""What a recipe is: TOML files, shipped in `recipes/` or the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.config.models import Setting
from vlmprompt.errors import InputError, UsageError, did_you_mean

SUFFIX = ".toml"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridSpec(_Model):
    """Runs to train, and the suites that measure them; the same keys as flags of `vlmprompt sweep`."""

    methods: list[str] = Field(min_length=1)
    data: list[str] = Field(min_length=1)
    shots: list[int] = Field(default=[16], min_length=1)
    suites: list[str] = Field(min_length=1)
    backbone: str | None = None
    setting: Setting | None = None
    protocol: str | None = None
    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict, description="as after --set, such as depth = 9")
    label: str | None = Field(None, description="name of these runs in the table, in place of the method's")
    reference: bool = Field(True, description="zero-shot and linear probe beside them")


class ColumnSpec(_Model):
    """A column of the table: which of all measured numbers it shows."""

    header: str
    suite: str
    cell: str
    metric: str
    data: str | None = Field(None, description="of this data set only, by the name in result rows")
    shots: int | None = Field(None, description="of runs with these shots only")


class Recipe(_Model):
    """A table to be made.

    Attributes:
        about: one sentence for lists.
        note: what a reader must know of the numbers; printed below them.
        seeds: of every run that has one.
        max_seconds: what it may take on a small machine, for lists; None: not known.
    """

    title: str
    about: str
    note: str = ""
    seeds: list[int] = Field(default=[1, 2, 3], min_length=1)
    max_seconds: int | None = None
    grid: list[GridSpec] = Field(min_length=1)
    column: list[ColumnSpec] = Field(min_length=1)


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX))


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a file by its path.

    Raises:
        UsageError: no such recipe.
        InputError: the file is no recipe; names what is wrong in it.
    """
    source: Traversable | Path = Path(name) if name.endswith(SUFFIX) else _folder() / f"{name}{SUFFIX}"
    if not source.is_file():
        raise UsageError(f"there is no recipe {name!r}", hint=did_you_mean(name, recipe_names()))
    try:
        return Recipe.model_validate(tomllib.loads(source.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {name} is not TOML: {error}") from error
    except ValidationError as error:
        raise InputError(
            f"recipe {name}: {_first(error)}", hint="'vlmprompt reproduce' lists those that work"
        ) from None


def _first(error: ValidationError) -> str:
    problem: Mapping[str, Any] = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}"


def _folder() -> Traversable:
    return resources.files("vlmprompt.reproduce") / "recipes"
