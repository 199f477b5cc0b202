"""What a recipe would do: its runs, the data that are missing, and what it would cost. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmprompt.config.models import Runtime
from vlmprompt.reproduce.cost import GPU_FLOPS, Estimator, machine_rate
from vlmprompt.reproduce.missing import Missing, look
from vlmprompt.reproduce.offers import require_columns
from vlmprompt.reproduce.recipe import GridSpec, Recipe
from vlmprompt.reproduce.run import describe, sweep_grid

UNITS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def plan(recipe: Recipe, root: Path | None, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """The plan of a recipe.

    Args:
        root: parent folder of data sets.
        seeds: in place of the recipe's.

    Returns:
        JSON-able: `title`, `parts` (each with its axes, `runs`, `flops` or None), `missing`, `departures`, and
        `compute` (`flops` and `counted_runs` of the parts that are estimated, `machine_flops`, `machine_seconds`,
        `gpu_flops`, `gpu_seconds`).

    Raises:
        UsageError, PluginError: a part that cannot be run.
        InputError: a column that shows nothing.
    """
    require_columns(recipe, Runtime(root=root))
    present = look(recipe, root)
    estimator = Estimator(present.datasets)
    parts = [_part(spec, recipe.seeds_of(spec, seeds), estimator) for spec in recipe.grid]
    estimated = [part for part in parts if part["flops"] is not None]
    flops, machine = sum(part["flops"] for part in estimated), machine_rate()
    compute = {
        "flops": flops,
        "counted_runs": sum(part["runs"] for part in estimated),
        "machine_flops": machine,
        "machine_seconds": flops / machine,
        "gpu_flops": GPU_FLOPS,
        "gpu_seconds": flops / GPU_FLOPS,
    }
    return {
        "title": recipe.title,
        "parts": parts,
        "missing": [vars(one) for one in present.missing],
        "departures": recipe.departures,
        "compute": compute,
    }


def plan_lines(found: Mapping[str, Any]) -> list[str]:
    """The plan for people."""
    parts = found["parts"]
    lines = [found["title"], "", *(_line(part) for part in parts)]
    lines.append(f"{sum(part['runs'] for part in parts):4d} runs in all")
    missing = [Missing(**one).line for one in found["missing"]]
    for heading, told in (("Differs from the paper:", found["departures"]), ("Not there:", missing)):
        lines += ["", heading, *(f"- {line}" for line in told)] if told else []
    return [*lines, "", *_compute_lines(found)]


def duration(seconds: float) -> str:
    """A time in the largest unit that it fills: "3.2 days"."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size or unit == "s")
    return f"{figure(seconds / size, digits=2)} {unit}"


def figure(value: float, *, digits: int = 3) -> str:
    """A number to so many digits, all those of its whole part in any case: "0.0123", "1.23", "12,345"."""
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _part(spec: GridSpec, seeds: Sequence[int], estimator: Estimator) -> dict[str, Any]:
    axes = {name: getattr(spec, name) for name in ("label", "methods", "data", "shots", "setting", "suites")}
    runs = sum(map(len, sweep_grid(spec, seeds).groups()))
    what = f"{describe(spec)}; seeds {', '.join(map(str, seeds))}"
    return {**axes, "seeds": list(seeds), "runs": runs, "what": what, "flops": estimator.flops(spec, seeds)}


def _line(part: Mapping[str, Any]) -> str:
    cost = "no estimate" if part["flops"] is None else f"{figure(part['flops'] / 1e15)} PFLOP"
    return f"{part['runs']:4d} runs  {part['what']}  [{cost}]"


def _compute_lines(found: Mapping[str, Any]) -> list[str]:
    compute, runs = found["compute"], sum(part["runs"] for part in found["parts"])
    counted = "" if compute["counted_runs"] == runs else f" of {compute['counted_runs']} of the {runs} runs"
    machine, gpu = duration(compute["machine_seconds"]), duration(compute["gpu_seconds"])
    return [
        f"Compute{counted}: about {figure(compute['flops'] / 1e15)} PFLOP, by formula: the towers alone, without "
        "decoding images and without optimal transport; a first estimate.",
        f"- this machine: {machine} at {figure(compute['machine_flops'] / 1e9)} GFLOP/s, measured now on products of "
        "512 x 512 matrices",
        f"- a GPU: {gpu}, assuming that it sustains {compute['gpu_flops'] / 1e12:g} TFLOP/s, a sixth of an A100's "
        "peak in half precision; not measured, and more than small towers and batches reach",
    ]
