"""From results files to the runs of a page, with all that lies in their folders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from vlmprompt.errors import InputError
from vlmprompt.predict.calibrated import Calibrated
from vlmprompt.regular import regular
from vlmprompt.report.explained import EXPLAIN_DIR, Explained
from vlmprompt.report.run import DetailsFolder, ReportRun
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.run_info import RunInfo

RUNS_DIR = "runs"  # of a sweep, beside its results
LOG_FILE = "log.jsonl"
# What stands beside a run where its run.json is not there to say which method is its own.
_REFERENCES = frozenset({"zeroshot", "descriptions", "linear_probe"})
T = TypeVar("T")


@dataclass(frozen=True)
class Loaded:
    """The runs of a page.

    Attributes:
        left_out: what could not be read, one line each; grows while sections read details.
    """

    runs: tuple[ReportRun, ...]
    left_out: list[str] = field(default_factory=list)


def load(
    stored: Mapping[Path, Sequence[ResultRow]], *, beside: Iterable[Path] = (), root: Path | None = None
) -> Loaded:
    """The runs behind some results files; a reference method beside a run is one of its own.

    What is damaged is left out and told, but for the results themselves.

    Args:
        stored: results file -> the rows of it that hold.
        beside: folders of runs that have not been measured, to be shown without numbers.
        root: parent folder of the data sets' folders.
    """
    left_out: list[str] = []
    runs = [run for file, rows in stored.items() for run in _of_file(file, rows, left_out, root)]
    runs += [_in_folder(folder, folder.resolve().name, left_out, root) for folder in beside]
    return Loaded(tuple(_told_apart(runs)), left_out)


def unmeasured(sources: Iterable[Path], measured: Iterable[Path]) -> list[Path]:
    """Folders of runs that lie directly in some folders and have no results of their own.

    Args:
        measured: results files; a run of which one of them says something is not among what is found.
    """
    known = {file.parent.resolve() for file in measured}
    found = [file.parent for source in sources for file in sorted(source.glob(f"*/{RUN_FILE}"))]
    return [folder for folder in dict.fromkeys(found) if folder.resolve() not in known]


def _of_file(file: Path, rows: Sequence[ResultRow], left_out: list[str], root: Path | None) -> list[ReportRun]:
    by_name: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_name.setdefault(row.run, []).append(row)
    found = []
    for name, own in by_name.items():
        folder = _folder(file, name, alone=len(by_name) == 1)
        run = None if folder is None else _in_folder(folder, name, left_out, root)
        found += _of_name(run or ReportRun(name, None, None, [], root=root), own, partial(_details, file, left_out))
    return found


def _of_name(
    run: ReportRun, rows: Sequence[ResultRow], details: Callable[[Sequence[ResultRow]], DetailsFolder]
) -> list[ReportRun]:
    """A run with its rows, and what was measured beside it, of all rows that bear its name."""
    by_method: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    own = run.method or _own_method(by_method)
    mine = by_method.pop(own, [])
    found = [replace(run, rows=mine, details=details(mine), method=own)]
    for method, others in by_method.items():
        beside = ReportRun(run.name, None, None, others, details=details(others), root=run.root)
        found.append(replace(beside, method=method, reference=True))
    return found


def _own_method(methods: Iterable[str]) -> str:
    """The method of a run of which only rows are there: the first that is no reference's, if there is one."""
    names = list(methods)
    return next((name for name in names if name not in _REFERENCES), names[0])


def _folder(file: Path, name: str, *, alone: bool) -> Path | None:
    """The folder of a run that has rows in a results file: the file's own, or one of a sweep beside it.

    Args:
        alone: the file speaks of no other run, so that it is the one in its folder, whatever that is called by now.
    """
    own = file.parent
    candidates = [own] if alone or own.resolve().name == name else []
    candidates.append(own / RUNS_DIR / name)
    return next((folder for folder in candidates if (folder / RUN_FILE).exists()), None)


def _details(file: Path, left_out: list[str], rows: Sequence[ResultRow]) -> DetailsFolder:
    return DetailsFolder(file, [row.key for row in rows], left_out.append)


def _in_folder(folder: Path, name: str, left_out: list[str], root: Path | None) -> ReportRun:
    """What lies in a run's folder."""

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except InputError as error:
            left_out.append(error.told)
            return None

    info = attempt(lambda: RunInfo.read(folder))
    checkpoint = None if info is None else info.checkpoint
    return ReportRun(
        name,
        folder,
        info,
        [],
        log=attempt(lambda: read_log(folder / LOG_FILE)) or [],
        explained=attempt(lambda: _explained(folder / EXPLAIN_DIR, checkpoint)),
        calibration=attempt(lambda: Calibrated.read(folder, checkpoint)),
        method="" if info is None else info.config.method,
        root=root,
    )


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a training's log; a last one that is being written, or was torn, does not count.

    Raises:
        InputError: it cannot be read, or another line is damaged.
    """
    try:
        lines = regular(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check who may read it") from error
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise InputError(f"line {number} of {path} is damaged, so its curves are left out", hint="restore it")
        found.append(content)
    return found


def _explained(folder: Path, checkpoint: str | None) -> Explained | None:
    found = Explained.read(folder)
    if found is not None:
        _require_own(folder, found.checkpoint, checkpoint, "draw it again with 'vlmprompt explain'")
    return found


def _require_own(what: Path, found: str | None, checkpoint: str | None, hint: str) -> None:
    """Refuse what was made of another state of the run than its last."""
    if found is not None and checkpoint is not None and found != checkpoint:
        raise InputError(f"{what} was made of another checkpoint than the run's, and is left out", hint=hint)


def _told_apart(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Runs of one name from several files, with a number behind it from the second on."""
    met: Counter[tuple[str, str]] = Counter()
    taken = {(run.name, run.method) for run in runs}
    found = []
    for run in runs:
        met[run.name, run.method] += 1
        name = run.name
        if met[run.name, run.method] > 1:
            name = next(f"{run.name} ({i})" for i in count(2) if (f"{run.name} ({i})", run.method) not in taken)
            taken.add((name, run.method))
        found.append(replace(run, name=name))
    return found
