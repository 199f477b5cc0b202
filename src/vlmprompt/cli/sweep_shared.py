"""A sweep that several processes or machines share: the options, and how far it has come."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli import slurm
from vlmprompt.cli.output import Table, emit
from vlmprompt.errors import UsageError

if TYPE_CHECKING:
    from vlmprompt.evaluation.shard import Shard
    from vlmprompt.evaluation.status import GridStatus

_PANEL = "How it is shared"

WorkerFlag = Annotated[
    bool,
    typer.Option(
        "--worker",
        help="Take runs that nobody has until none is left, and leave to other processes what they have.",
        rich_help_panel=_PANEL,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N|slurm",
        help="Do part I of N alone; slurm: the part of this task of an array. Parts share nothing.",
        rich_help_panel=_PANEL,
    ),
]
StatusFlag = Annotated[
    bool,
    typer.Option("--status", help="Show who is at work on what, and how much is left.", rich_help_panel=_PANEL),
]
SlurmOption = Annotated[
    str | None,
    typer.Option(
        "--slurm",
        metavar="OPTION=VALUE,...",
        help="Write a SLURM array with these options of sbatch, a part of the sweep a task.",
        rich_help_panel=_PANEL,
    ),
]
SubmitFlag = Annotated[bool, typer.Option("--submit", help="Give the array to sbatch.", rich_help_panel=_PANEL)]


def shard_of(text: str | None, *, force: bool) -> Shard | None:
    """The part that is asked for; said, where it is one.

    Raises:
        UsageError: it is no part, or --force stands beside it.
    """
    if text is None:
        return None
    from vlmprompt.evaluation.shard import Shard

    if force:
        raise UsageError(
            "--force has the folder of a sweep to itself, and parts work side by side",
            hint="give another --out, or remove the folder first",
        )
    return Shard.parse(text, os.environ)


def show_status(command: str, parts: Sequence[tuple[str, GridStatus]], *, as_json: bool) -> None:
    """Print how far some grids have come.

    Args:
        parts: title and state of each; the title is empty where there is one.
    """
    shown: list[Table | str] = []
    for title, status in parts:
        rows = [(run.state, run.name, run.who or run.note) for run in status.runs]
        shown += [Table(("state", "run", "by whom, or why"), rows, title or None), "", _summary(status), ""]
    data: list[dict[str, Any]] = [
        {
            "title": title,
            "runs": [vars(run) for run in status.runs],
            "counts": status.counts,
            "workers": status.workers,
            "training_left_s": status.training_left_s,
        }
        for title, status in parts
    ]
    emit(command, {"status": data}, as_json=as_json, table=shown[:-1])


def _summary(status: GridStatus) -> str:
    from vlmprompt.cli.progress import duration
    from vlmprompt.shown import several

    counts = ", ".join(f"{count} {state}" for state, count in status.counts.items())
    parts = [f"{several(len(status.runs), 'run', 'runs')}: {counts}"]
    if status.workers:
        parts.append(f"{several(status.workers, 'process', 'processes')} at work")
    if status.training_left_s is not None:
        at = "as many at work as now" if status.workers else "one at work"
        parts.append(f"about {duration(status.training_left_s)} of training left with {at}, measuring not counted")
    return "; ".join(parts)


def give_array(script: str, out: Path, *, submit: bool, dry_run: bool, as_json: bool) -> None:
    """Write the script of an array, and submit it if asked to; of a dry run it is printed.

    Raises:
        InputError: see `vlmprompt.cli.slurm`.
    """
    if dry_run:
        emit("sweep", {"script": script}, as_json=as_json, table=script.rstrip())
        return
    path = slurm.write(script, out)
    said = slurm.submit(path) if submit else None
    line = said or f"written: {path}; submit it with: sbatch {shlex.quote(str(path))}"
    emit("sweep", {"script": script, "path": path, "submitted": said}, as_json=as_json, table=line)
