"""`vlmprompt reproduce`: a whole table from one command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.machine import MachineFlags
from vlmprompt.cli.names import require
from vlmprompt.cli.options import ForceFlag, JsonFlag
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.sweep_shared import Elsewhere, SharingFlags, show_status

if TYPE_CHECKING:
    from vlmprompt.config.models import Runtime
    from vlmprompt.errors import IncompleteError
    from vlmprompt.evaluation.shard import Shard
    from vlmprompt.reproduce.missing import Present
    from vlmprompt.reproduce.recipe import Recipe
    from vlmprompt.results.rows import ResultRow

TABLE_FILE = "table.md"
MADE_HERE = "<!-- made by vlmprompt reproduce, which replaces it -->"


def register(app: typer.Typer) -> None:
    """Add `reproduce`."""
    app.command("reproduce")(reproduce)


@grouped
def reproduce(
    *,
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="Name of a recipe, or a TOML file; without it, recipes are listed."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="Seed instead of the recipe's; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for runs and tables; default reproduce/RECIPE.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained and measured.")] = False,
    partly: Annotated[bool, typer.Option("--so-far", help="Show what has been measured so far; run nothing.")] = False,
    sharing: SharingFlags,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    machine: MachineFlags,
) -> None:
    """Train and measure everything that a table needs, and print it.

    Repeating the command continues where it stopped. Started several times, on
    one machine or on several with the same folder, the processes share the work.
    A run that fails is reported and does not stop the others.
    """
    from vlmprompt.reproduce.recipe import load_recipe

    if recipe is None:
        _list(as_json)
        return
    chosen, root = load_recipe(recipe), machine.root
    from vlmprompt.reproduce.configuration import require_known

    part, others = sharing.part(force=force), sharing.elsewhere(force=force)
    require(suites=(suite for spec in chosen.grid for suite in spec.suites))
    machine.require_device()
    require_known(chosen, root, seed or ())
    if dry_run:
        _plan(chosen, root, seed or (), as_json)
        return
    folder = out or Path("reproduce") / Path(recipe).stem
    if sharing.status:
        _status(chosen, root, folder, seed or (), part, as_json)
        return
    _require_own_table(folder)
    if partly:
        _so_far(recipe, chosen, root, folder, seed or (), as_json)
        return
    shared: dict[str, Any] = {"seeds": seed or (), "force": force, "shard": part, "worker": sharing.worker}
    _run(recipe, chosen, machine.runtime(), folder, shared, others, as_json=as_json)


def _status(
    recipe: Recipe, root: Path | None, folder: Path, seeds: Sequence[int], part: Shard | None, as_json: bool
) -> None:
    from vlmprompt.reproduce.missing import look, without
    from vlmprompt.reproduce.run import statuses

    able = without(recipe, look(recipe, root))
    show_status("reproduce", statuses(able, out=folder, seeds=seeds, shard=part), as_json=as_json)


def _run(
    name: str,
    recipe: Recipe,
    runtime: Runtime,
    folder: Path,
    shared: Mapping[str, Any],
    others: Elsewhere,
    *,
    as_json: bool,
) -> None:
    from vlmprompt.evaluation.runner import RESULTS_FILE
    from vlmprompt.reproduce.missing import look, without
    from vlmprompt.reproduce.offers import require_columns
    from vlmprompt.reproduce.run import left_to_train
    from vlmprompt.reproduce.run import reproduce as run_recipe

    progress = CliProgress()
    require_columns(recipe, runtime)
    present = look(recipe, runtime.root)
    for one in present.missing:
        progress.warn(f"not there: {one.line}")
    able = without(recipe, present)
    left = partial(left_to_train, able, out=folder, seeds=shared["seeds"])
    with others.started(runtime.device, left) as executor:
        rows = run_recipe(able, runtime, out=folder, progress=progress, executor=executor, **shared)
    text = _write_table(recipe, rows, present, folder)
    progress.message(f"table: {folder / TABLE_FILE}; all numbers: {folder / RESULTS_FILE}")
    data = {"recipe": name, "table": folder / TABLE_FILE, "rows": [row.public() for row in rows]}
    data["skipped"] = [vars(one) for one in present.missing]
    emit("reproduce", data, as_json=as_json, table=text, error=_incomplete(rows, present))


def _so_far(name: str, recipe: Recipe, root: Path | None, folder: Path, seeds: Sequence[int], as_json: bool) -> None:
    from vlmprompt.errors import InputError
    from vlmprompt.reproduce.missing import look, without
    from vlmprompt.reproduce.run import so_far

    present = look(recipe, root)
    rows, waiting = so_far(without(recipe, present), out=folder, seeds=seeds)
    if not rows:
        raise InputError(
            f"nothing of {name} has been measured in {folder}",
            hint=f"'vlmprompt reproduce {name}' does, --out names another folder",
        )
    text = _write_table(recipe, rows, present, folder, waiting)
    data = {"recipe": name, "table": folder / TABLE_FILE, "rows": [row.public() for row in rows], "waiting": waiting}
    emit("reproduce", data, as_json=as_json, table=text)


def _write_table(
    recipe: Recipe, rows: list[ResultRow], present: Present, folder: Path, waiting: Sequence[str] = ()
) -> str:
    """The report as text for the terminal; as Markdown it goes into the folder."""
    from vlmprompt.atomic import write_atomic
    from vlmprompt.reproduce.report import report

    finished = report(recipe, rows, present, waiting)
    write_atomic(folder / TABLE_FILE, f"{MADE_HERE}\n\n{finished.markdown()}".encode())
    return finished.text()


def _require_own_table(folder: Path) -> None:
    """Before days of work: what somebody else wrote is not replaced. Older versions are known by results beside it."""
    from vlmprompt.errors import InputError
    from vlmprompt.evaluation.runner import RESULTS_FILE

    table = folder / TABLE_FILE
    if not table.exists() or any(folder.glob(RESULTS_FILE)) or any(folder.glob(f"*/{RESULTS_FILE}")):
        return
    if not (table.is_file() and table.read_bytes().startswith(MADE_HERE.encode())):
        raise InputError(f"{table} was not made here, and would be lost", hint="move it away, or give another --out")


def _incomplete(rows: list[ResultRow], present: Present) -> IncompleteError | None:
    """What failed, or else was skipped."""
    from vlmprompt.errors import IncompleteError
    from vlmprompt.evaluation.failures import incomplete

    if not present.missing:
        return incomplete(rows)
    first = present.missing[0]
    message = f"finished without {len(present.missing)} things that are not there; the first: {first.line}"
    return incomplete(rows) or IncompleteError(message, hint="the same command measures them once they are there")


def _list(as_json: bool) -> None:
    from vlmprompt.reproduce.recipe import load_recipe, recipe_names

    recipes = {name: load_recipe(name) for name in recipe_names()}
    data: dict[str, Any] = {"recipes": [{"name": n, "about": r.about, "title": r.title} for n, r in recipes.items()]}
    table = Table(("recipe", "what it makes"), [(name, recipe.about) for name, recipe in recipes.items()])
    emit("reproduce", data, as_json=as_json, table=table)


def _plan(recipe: Recipe, root: Path | None, seeds: Sequence[int], as_json: bool) -> None:
    from vlmprompt.reproduce.plan import plan, plan_lines
    from vlmprompt.reproduce.report import wrapped

    found = plan(recipe, root, seeds)
    emit("reproduce", found, as_json=as_json, table=wrapped(plan_lines(found)))
