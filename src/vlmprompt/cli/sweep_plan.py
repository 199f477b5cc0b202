"""What a sweep would run, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprompt.cli.output import Table, emit

if TYPE_CHECKING:
    from vlmprompt.config.resolve import Resolved
    from vlmprompt.evaluation.grid import Grid, Job


def show_plan(grid: Grid, resolve: Callable[..., Resolved], out: Path, *, as_json: bool) -> None:
    """Print every run of a sweep and how many there are; nothing is run.

    Raises:
        UsageError: see `evaluation.grid.jobs`.
    """
    from vlmprompt.config.grid import shown_values
    from vlmprompt.evaluation.grid import jobs
    from vlmprompt.evaluation.sweep import RUNS_DIR
    from vlmprompt.training.folder import RunFolder
    from vlmprompt.training.start import is_finished

    runs_dir = out / RUNS_DIR
    found = [job for group in jobs(grid, resolve, runs_dir) for job in group]
    settings = [shown_values(job.resolved, job.combination) for job in found]
    trained = [is_finished(RunFolder(job.folder)) for job in found]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    rows = [
        (*_axes(job).values(), *(values.get(key, "") for key in keys), "yes" if done else "no", job.folder.name)
        for job, values, done in zip(found, settings, trained, strict=True)
    ]
    table = Table(("method", "data", "shots", "seed", *keys, "trained", "run"), rows)
    line = f"{len(found)} runs in {runs_dir}, {sum(trained)} of them trained; nothing was run"
    runs: list[dict[str, Any]] = [
        {"run": job.folder.name, **_axes(job), "shots": job.config.shots, "settings": values, "trained": done}
        for job, values, done in zip(found, settings, trained, strict=True)
    ]
    emit("sweep", {"dry_run": {"folder": runs_dir, "runs": runs}}, as_json=as_json, table=[table, "", line])


def _axes(job: Job) -> dict[str, Any]:
    from vlmprompt.config.keys import show_value

    config = job.config
    return {
        "method": config.method,
        "data": config.data,
        "shots": show_value("shots", config.shots),
        "seed": config.seed,
    }
