"""`vlmprompt reproduce`: a whole table from one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.options import (
    DeviceOption,
    FeatureCacheOption,
    ForceFlag,
    JsonFlag,
    RootOption,
    WorkersOption,
)
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.progress import CliProgress

if TYPE_CHECKING:
    from vlmprompt.reproduce.recipe import Recipe
    from vlmprompt.results.rows import ResultRow

TABLE_FILE = "table.md"


def register(app: typer.Typer) -> None:
    """Add `reproduce`."""
    app.command("reproduce")(reproduce)


def reproduce(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe's name, or its TOML file; none lists them.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Seed in place of the recipe's; repeat it.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for runs and tables; default reproduce/RECIPE.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained and measured.")] = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    root: RootOption = None,
    feature_cache: FeatureCacheOption = None,
) -> None:
    """Train and measure all that a table needs, and print it.

    The same command goes on where it stopped; a run that fails is reported and
    does not stop the others.
    """
    from vlmprompt.reproduce.recipe import load_recipe

    if recipe is None:
        _list(as_json)
        return
    chosen = load_recipe(recipe)
    if dry_run:
        _plan(chosen, seed or chosen.seeds, as_json)
        return
    from vlmprompt.config.models import Runtime
    from vlmprompt.evaluation.runner import RESULTS_FILE, incomplete
    from vlmprompt.reproduce.run import reproduce as run_recipe

    folder = out or Path("reproduce") / Path(recipe).stem
    runtime = Runtime(device=device, workers=workers, root=root, feature_cache=feature_cache)
    progress = CliProgress()
    rows = run_recipe(chosen, runtime, out=folder, seeds=seed or (), force=force, progress=progress)
    text = _write_table(chosen, rows, folder)
    progress.message(f"table: {folder / TABLE_FILE}; all numbers: {folder / RESULTS_FILE}")
    data = {"recipe": recipe, "table": folder / TABLE_FILE, "rows": [row.public() for row in rows]}
    emit("reproduce", data, as_json=as_json, table=text, error=incomplete(rows))


def _write_table(recipe: Recipe, rows: list[ResultRow], folder: Path) -> str:
    """The table as text for the terminal; as Markdown it goes into the folder."""
    from vlmprompt.atomic import write_atomic
    from vlmprompt.results.overview import Pick, overview
    from vlmprompt.results.reporters import as_markdown, as_text

    table = overview(rows, [Pick(**column.model_dump()) for column in recipe.column], recipe.title)
    note = f"\n{recipe.note}" if recipe.note else ""
    write_atomic(folder / TABLE_FILE, f"{as_markdown(table)}\n{note and note + chr(10)}".encode())
    return as_text(table) + note


def _list(as_json: bool) -> None:
    from vlmprompt.reproduce.recipe import load_recipe, recipe_names

    recipes = {name: load_recipe(name) for name in recipe_names()}
    data: dict[str, Any] = {"recipes": [{"name": n, "about": r.about, "title": r.title} for n, r in recipes.items()]}
    table = Table(("recipe", "what it makes"), [(name, recipe.about) for name, recipe in recipes.items()])
    emit("reproduce", data, as_json=as_json, table=table)


def _plan(recipe: Recipe, seeds: list[int], as_json: bool) -> None:
    from vlmprompt.reproduce.run import describe, sweep_grid

    counts = [sum(map(len, sweep_grid(spec, seeds).groups())) for spec in recipe.grid]
    parts = [{"runs": count, "what": describe(spec)} for spec, count in zip(recipe.grid, counts, strict=True)]
    lines = [f"{part['runs']:4d} runs  {part['what']}" for part in parts]
    total = f"{sum(counts):4d} runs in all, seeds {', '.join(map(str, seeds))}"
    emit("reproduce", {"title": recipe.title, "parts": parts}, as_json=as_json, table=[recipe.title, *lines, total])
