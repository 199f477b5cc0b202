"""Runs a recipe: its grids, each a sweep that goes on where it stopped, one after the other, or all by an executor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.config.resolve import Resolved
from vlmprompt.data.load import short_names
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.executors.contract import Executor
from vlmprompt.evaluation.grid import Grid, run_names
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.evaluation.shard import Shard
from vlmprompt.evaluation.status import GridStatus, grid_status
from vlmprompt.evaluation.subjects import REFERENCES
from vlmprompt.evaluation.sweep import Sharing, Sweep, carry_out, untrained
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.reproduce.configuration import configuration
from vlmprompt.reproduce.recipe import GridSpec, Recipe
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current
from vlmprompt.training.folder import run_name


def reproduce(
    recipe: Recipe,
    runtime: Runtime,
    *,
    out: Path,
    seeds: Sequence[int] = (),
    force: bool = False,
    progress: Progress | None = None,
    shard: Shard | None = None,
    worker: bool = False,
    executor: Executor | None = None,
) -> list[ResultRow]:
    """Train and measure everything that a recipe asks for.

    Args:
        out: gets `results.jsonl`, `runs/` and `references/`, for labelled grids in a folder of their own.
        seeds: in place of the recipe's and of its grids'.
        shard, worker, executor: see `sweep`.

    Returns:
        All rows, those of labelled grids under their label.

    Raises:
        UsageError, PluginError: see `require_runs`; every grid is checked before the first starts.
        Interrupted: by Ctrl-C; everything finished is kept.
    """
    progress = progress or SilentProgress()
    grids = [(spec, sweep_grid(spec, recipe.seeds_of(spec, seeds))) for spec in recipe.grid]
    require_runs(grids, out)
    resources = Resources(runtime, progress)

    def made() -> Iterator[tuple[GridSpec, Sweep]]:
        seen = 0
        for spec, grid in grids:
            part = None if shard is None else shard.after(seen)
            yield spec, _sweep(spec, grid, resources, folder_of(spec, out), Sharing(force, part, worker))
            seen += len(list(grid.groups()))

    if executor is not None:
        sweeps = list(made())
        carry_out([one for _, one in sweeps], executor, progress, kept=out)
        return [labelled(row, spec) for spec, one in sweeps for row in one.rows()]
    rows: list[ResultRow] = []
    for i, (spec, one) in enumerate(made(), 1):
        progress.message(f"part {i} of {len(grids)}: {describe(spec)}")
        carry_out([one], None, progress, kept=folder_of(spec, out))
        rows += [labelled(row, spec) for row in one.rows()]
    return rows


def _sweep(spec: GridSpec, grid: Grid, resources: Resources, out: Path, sharing: Sharing) -> Sweep:
    """The runs of one grid."""
    return Sweep(
        grid,
        partial(_flagged, spec),
        spec.suites,
        resources,
        out=out,
        reference=spec.reference,
        measured_on={"companions": None, "score_options": spec.scores, "contents": False},
        sharing=sharing,
    )


def left_to_train(recipe: Recipe, *, out: Path, seeds: Sequence[int] = ()) -> int:
    """How many runs of a recipe are yet to be trained.

    Args:
        out, seeds: see `reproduce`.

    Raises:
        UsageError: see `require_runs`.
    """
    grids = [(spec, sweep_grid(spec, recipe.seeds_of(spec, seeds))) for spec in recipe.grid]
    return sum(untrained(grid, partial(_flagged, spec), folder_of(spec, out)) for spec, grid in grids)


def require_runs(grids: Sequence[tuple[GridSpec, Grid]], out: Path) -> None:
    """Find out before the first run what would go wrong after hours.

    Raises:
        UsageError: an unknown suite, a configuration that is not allowed, two runs of one folder, or two precisions.
        PluginError: a method or suite that cannot be loaded.
    """
    folders: dict[Path, RunConfig] = {}
    for spec, grid in grids:
        load_suites(spec.suites)
        names = short_names(spec.data)
        for flags in (run for group in grid.groups() for run in group):
            config = configuration(spec, flags).run
            folder = folder_of(spec, out) / run_name(config, names[config.data])
            if folders.setdefault(folder, config) != config:
                raise UsageError(
                    f"two grids of the recipe have different runs named {folder.name}",
                    hint="give one of the grids a label of its own",
                )
    precisions = sorted({config.train.precision for config in folders.values()})
    if len(precisions) > 1:
        raise UsageError(
            f"a recipe runs in one precision, this one would need {' and '.join(precisions)}",
            hint="set precision in every grid, or make two recipes",
        )


def statuses(
    recipe: Recipe, *, out: Path, seeds: Sequence[int] = (), shard: Shard | None = None
) -> list[tuple[str, GridStatus]]:
    """How far each grid of a recipe has come, with what it is; nothing is run.

    Args:
        out, seeds, shard: see `reproduce`.
    """
    found, seen = [], 0
    for spec in recipe.grid:
        grid = sweep_grid(spec, recipe.seeds_of(spec, seeds))
        part = None if shard is None else shard.after(seen)
        state = grid_status(grid, partial(_flagged, spec), spec.suites, folder_of(spec, out), shard=part)
        found.append((describe(spec), state))
        seen += len(list(grid.groups()))
    return found


def so_far(recipe: Recipe, *, out: Path, seeds: Sequence[int] = ()) -> tuple[list[ResultRow], list[str]]:
    """What has been measured of a recipe by now, and what has not, in words; nothing is run.

    Args:
        out: where the recipe runs or ran.
        seeds: in place of the recipe's and of its grids'.

    Raises:
        UsageError, PluginError: see `sweep`.
    """
    rows: list[ResultRow] = []
    waiting: list[str] = []
    for spec in recipe.grid:
        own, missing = _measured(spec, recipe.seeds_of(spec, seeds), folder_of(spec, out))
        rows += [labelled(row, spec) for row in own]
        if missing:
            left = ", ".join(f"{method} {count}" for method, count in Counter(missing).items())
            waiting.append(f"{describe(spec)}: runs left: {left}")
    return rows, waiting


def _measured(spec: GridSpec, seeds: Sequence[int], folder: Path) -> tuple[list[ResultRow], list[str]]:
    """Stored rows of a grid's runs, each number once; and for each run without some suite its method."""
    names = run_names(sweep_grid(spec, seeds), partial(_flagged, spec))
    stored = [row for row in current(ResultStore(folder / RESULTS_FILE).read().rows) if row.suite in spec.suites]
    own = [row for row in stored if row.run in names or _is_reference(row, spec, seeds)]
    done = {(row.run, row.suite) for row in own if row.method in spec.methods and row.status != "failed"}
    missing = [method for run, method in names.items() if any((run, suite) not in done for suite in spec.suites)]
    return list({(row.key, row.metric): row for row in own}.values()), missing


def _is_reference(row: ResultRow, spec: GridSpec, seeds: Sequence[int]) -> bool:
    """Whether a grid shows this number of a reference, which may have been measured beside a run of another grid."""
    if not spec.reference or row.method not in REFERENCES or row.method in spec.methods:
        return False
    same = row.dataset in short_names(spec.data).values() and spec.backbone in (None, row.backbone)
    return same and row.shots in (None, *spec.shots) and row.seed in (None, *seeds)


def _flagged(spec: GridSpec, **flags: Any) -> Resolved:
    return configuration(spec, flags)


def folder_of(spec: GridSpec, out: Path) -> Path:
    """Where a grid's runs go: names of runs say nothing of options, so variants of a method are kept apart."""
    return out if spec.label is None else out / re.sub(r"[^\w.-]+", "-", spec.label)


def sweep_grid(spec: GridSpec, seeds: Sequence[int]) -> Grid:
    """The runs of one grid."""
    return Grid(methods=spec.methods, datasets=spec.data, shots=spec.shots, seeds=seeds)


def describe(spec: GridSpec) -> str:
    """A grid in a line."""
    parts = [spec.label or ", ".join(spec.methods), f"on {', '.join(spec.data)}"]
    parts += [f"{', '.join(map(str, spec.shots))} shots"]
    parts += [spec.setting] if spec.setting else []
    return "; ".join([*parts, f"suites {', '.join(spec.suites)}"])


def labelled(row: ResultRow, spec: GridSpec) -> ResultRow:
    """A row under the grid's label; references keep their names."""
    if spec.label is None or row.method not in spec.methods:
        return row
    return row.model_copy(update={"method": spec.label})
