"""A sweep as one SLURM array: the script, and its submission."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlmprompt.errors import InputError, UsageError

FOLDER, SCRIPT = "slurm", "sweep.sh"
ARRAY = "array"
_KEY = re.compile(r"[a-z][a-z-]*")
_VALUE = re.compile(r"[^\s\"'`$\\;|&<>]+")
_EXAMPLE = "such as --slurm partition=gpu,time=2:00:00,gpus=1"
# Options of the command that are for whoever writes the script, with whether a value follows.
_NOT_FOR_TASKS = {"--slurm": True, "--submit": False, "--dry-run": False, "--json": False, "--worker": False}


def settings_of(text: str) -> dict[str, str]:
    """Read "partition=gpu,time=2:00:00,gpus=1": options of sbatch without their dashes.

    Raises:
        UsageError: that is no such list, or an option stands twice.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and found:  # a comma within a value, such as gres=gpu:1,tmp:10G
            last = next(reversed(found))
            found[last] = _checked(last, f"{found[last]},{part.strip()}")
            continue
        if not (equals and _KEY.fullmatch(key)):
            raise UsageError(f"--slurm {text!r}: {part.strip()!r} is not option=value of sbatch", hint=_EXAMPLE)
        if key in found:
            raise UsageError(f"--slurm names {key} twice", hint="give each option of sbatch once")
        found[key] = _checked(key, value)
    return found


def _checked(key: str, value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise UsageError(f"--slurm {key}={value!r}: a value has no blanks, quotes or signs of the shell", hint=_EXAMPLE)
    return value


def script_of(arguments: Sequence[str], settings: Mapping[str, str], *, runs: int, out: Path, worker: bool) -> str:
    """The script of an array whose tasks do a part of the sweep each.

    Args:
        arguments: of the command that is to be shared, program left out.
        settings: see `settings_of`; "array" is the number of tasks, with `%M` for at most M at once. Default: a task a
            run.
        runs: of the whole sweep.
        out: the sweep's folder, relative to where the command was given or absolute.
        worker: tasks take whatever is free in the shared folder, in place of a part each.

    Raises:
        UsageError: "array" is no number of tasks.
    """
    tasks, percent, at_once = settings.get(ARRAY, str(runs)).partition("%")
    if not (tasks.isdigit() and int(tasks) and (at_once.isdigit() or not percent)):
        raise UsageError(
            f"--slurm array={settings.get(ARRAY)} is not a number of tasks",
            hint="such as array=16, or array=16%4 for four at once; left out there is one a run",
        )
    options = {
        "job-name": "vlmprompt-sweep",
        "chdir": str(Path.cwd()),
        "output": str(out / FOLDER / "%A-%a.log"),
        **settings,
        ARRAY: f"1-{tasks}{percent}{at_once}",
    }
    share = ["--worker"] if worker else ["--shard", "slurm"]
    command = [sys.executable, "-m", "vlmprompt", *_for_tasks(arguments), *share]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *(f"#SBATCH --{key}={_in_a_directive(value)}" for key, value in options.items()),
            "# Written by `vlmprompt sweep --slurm`. Submitted again it goes on where it stopped.",
            "set -euo pipefail",
            f"exec {shlex.join(command)}",
            "",
        ]
    )


def write(script: str, out: Path) -> Path:
    """Put the script where the array's logs go.

    Raises:
        InputError: it cannot be written.
    """
    from vlmprompt.atomic import write_atomic

    path = out / FOLDER / SCRIPT
    write_atomic(path, script.encode())
    path.chmod(0o755)
    return path


def submit(path: Path) -> str:
    """Give the script to sbatch; what it says.

    Raises:
        InputError: there is no sbatch, or it refuses.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise InputError(
            f"there is no sbatch on the PATH of this machine; the script is {path}",
            hint="submit it on a machine of the cluster: sbatch " + str(path),
        )
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise InputError(f"sbatch refuses {path}: {said}", hint="change what --slurm says, and submit again")
    return done.stdout.strip()


def _for_tasks(arguments: Sequence[str]) -> list[str]:
    """The arguments without those for whoever writes the script."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name = argument.partition("=")[0]
        if not skip and name not in _NOT_FOR_TASKS:
            kept.append(argument)
        skip = not skip and _NOT_FOR_TASKS.get(name, False) and "=" not in argument
    return kept


def _in_a_directive(value: str) -> str:
    """sbatch reads a directive as words; a path may hold blanks."""
    return f'"{value}"' if re.search(r"\s", value) else value
