"""A sweep that several processes or machines share: the options, and how far it has come."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli import slurm
from vlmprompt.cli.output import Table, emit
from vlmprompt.errors import UsageError

if TYPE_CHECKING:
    from vlmprompt.evaluation.executors.contract import Executor
    from vlmprompt.evaluation.shard import Shard
    from vlmprompt.evaluation.status import GridStatus

_PANEL = "Sharing the work"
LOCAL = "local"  # the executor of --jobs

WorkerFlag = Annotated[
    bool,
    typer.Option(
        "--worker",
        help="Take free runs until none are left, without waiting for runs of other processes.",
        rich_help_panel=_PANEL,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N|slurm",
        help="Do only part I of N; slurm: the part of this task in an array. Parts share nothing.",
        rich_help_panel=_PANEL,
    ),
]
StatusFlag = Annotated[
    bool,
    typer.Option("--status", help="Show which process works on what, and how much is left.", rich_help_panel=_PANEL),
]
SlurmOption = Annotated[
    str | None,
    typer.Option(
        "--slurm",
        metavar="OPTION=VALUE,...",
        help="Write a SLURM array with these sbatch options, one task for each part of the sweep.",
        rich_help_panel=_PANEL,
    ),
]
SubmitFlag = Annotated[bool, typer.Option("--submit", help="Submit the array with sbatch.", rich_help_panel=_PANEL)]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="Carry out the runs with this executor instead of in this process; see 'vlmprompt executors list'.",
        rich_help_panel=_PANEL,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="INT",
        help="Number of runs at once; without --executor, in processes on this machine. Default: on a CPU one a core, "
        "at most 4; on a GPU 1, in this process.",
        rich_help_panel=_PANEL,
    ),
]
ExecutorSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-set",
        metavar="OPTION=VALUE",
        help="One option of the executor; may be repeated. See 'vlmprompt executors show'.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Elsewhere:
    """The executor that is asked for, by name, and its options; without a name the runs are carried out here.

    Attributes:
        by_machine: nobody says how many runs are done at once.
    """

    name: str | None
    options: Mapping[str, Any]
    by_machine: bool = False

    @contextmanager
    def started(self, device: str, left: Callable[[], int]) -> Iterator[Executor | None]:
        """The executor.

        Args:
            device: of the runs.
            left: how many of them are to be trained.

        Raises:
            UsageError, PluginError, InputError: see `make_executor` and `runs_at_once`.
        """
        name, options = self.name, self.options
        if self.by_machine:
            from vlmprompt.evaluation.executors.at_once import runs_at_once

            if (jobs := runs_at_once(left(), device)) > 1:
                name, options = LOCAL, {"jobs": jobs}
        if name is None:
            yield None
            return
        from vlmprompt.evaluation.executors.options import make_executor

        with make_executor(name, options) as executor:
            yield executor


@dataclass(frozen=True, kw_only=True)
class SharingFlags:
    """Who carries out the runs of a grid."""

    executor: ExecutorOption = None
    jobs: JobsOption = None
    executor_set: ExecutorSetOption = None
    worker: WorkerFlag = False
    shard: ShardOption = None
    status: StatusFlag = False

    def part(self, *, force: bool) -> Shard | None:
        """See `shard_of`."""
        return shard_of(self.shard, force=force)

    def elsewhere(self, *, force: bool) -> Elsewhere:
        """See `elsewhere`. Whoever shares the work by hand, or has the folder alone, is one process."""
        alone = force or self.worker or self.shard is not None
        return elsewhere(self.executor, self.jobs, self.executor_set, force=force, alone=alone)


def elsewhere(
    name: str | None, jobs: int | None, assignments: Sequence[str] | None, *, force: bool, alone: bool
) -> Elsewhere:
    """What the options say, checked before anything heavy is loaded.

    Args:
        alone: this process does all of its runs where nobody says.

    Raises:
        UsageError: no such executor or option, options without an executor, or --force beside them.
        PluginError: the executor's plugin failed.
    """
    name = name or (None if jobs in (None, 1) else LOCAL)
    if name is None:
        if assignments:
            raise UsageError(f"--executor-set {assignments[0]} without --executor", hint="such as --executor local")
        return Elsewhere(None, {}, by_machine=jobs is None and not alone)
    from vlmprompt.evaluation.executors.options import executor_config, read_settings

    if force:
        raise UsageError(
            "--force has the folder of a sweep to itself, and workers share it",
            hint="give --jobs 1 and no --executor, give another --out, or remove the folder first",
        )
    options = read_settings(name, assignments or ()) | ({} if jobs is None else {"jobs": jobs})
    executor_config(name, options)
    return Elsewhere(name, options)


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
