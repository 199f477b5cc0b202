"""Whether a folder is a run, as far as a look at the beginning of its run.json tells; nothing heavy is imported."""

from __future__ import annotations

import re
from pathlib import Path

from vlmprompt.errors import InputError
from vlmprompt.regular import regular

RUN_FILE = "run.json"
_FINISHED = re.compile(rb'"status":\s*"finished"')
_BEGINNING = 1 << 16  # bytes; the status stands among the first keys
_SHOWN = 3


def run_at(named: Path, runs_dir: Path) -> Path:
    """The folder of a run, named by its path or by its name in a folder of runs where nothing else is called so.

    What is neither is given back as it is.
    """
    by_name = runs_dir / named
    is_name = named.name == str(named) and not named.exists() and (by_name / RUN_FILE).exists()
    return by_name if is_name else named


def require_run(path: Path) -> None:
    """Refuse a folder that is no run.

    Raises:
        InputError: names the runs that it holds, if it does.
    """
    if not (path / RUN_FILE).exists():
        here = ", ".join(run.resolve().name for run in finished_runs(path)[:_SHOWN])
        hint = f"it holds runs: {here}" if here else "'vlmprompt train' makes one"
        raise InputError(f"{path} is not a run", hint=hint)


def require_finished(path: Path) -> None:
    """Refuse a folder that is no run, or a run that has not come to its end.

    Raises:
        InputError: says which, and the next step.
    """
    require_run(path)
    if not _is_finished(path / RUN_FILE):
        raise InputError(
            f"run {path.resolve().name} is not finished", hint=f"go on with it: vlmprompt train --out {path} --resume"
        )


def finished_runs(runs_dir: Path) -> list[Path]:
    """The folders of runs that say that they are finished, the newest first; their files may still be damaged."""
    found = [file for file in runs_dir.glob(f"*/{RUN_FILE}") if _is_finished(file)]
    return [file.parent for file in sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)]


def no_run(runs_dir: Path) -> InputError:
    """The error where a finished run is needed and there is none."""
    return InputError(
        f"there is no finished run in {runs_dir}",
        hint="train one with 'vlmprompt train', or name a run's folder",
    )


def _is_finished(file: Path) -> bool:
    try:
        with regular(file).open("rb") as opened:
            return _FINISHED.search(opened.read(_BEGINNING)) is not None
    except OSError:
        return False
