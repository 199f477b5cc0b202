"""How a run begins in its folder: who may write there, and from where it goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from vlmprompt.atomic import parts, probe
from vlmprompt.claims.claim import Claim, claim
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import InputError
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.provenance import changed_keys
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.trainset import DataDigests
from vlmprompt.training.upgraded import upgraded_config

Start = Literal["new", "resume", "done"]


def hold(folder: RunFolder) -> AbstractContextManager[Claim]:
    """Be the only one that writes into a run folder.

    Raises:
        BusyError: somebody else is.
        InputError: the folder cannot be written to.
    """
    return claim(folder.path, "run", f"run {folder.path}")


def is_finished(folder: RunFolder) -> bool:
    """Whether a finished run is there, for whatever configuration."""
    try:
        return RunInfo.read(folder.path).status == "finished"
    except InputError:
        return False


def start_of(
    folder: RunFolder,
    config: RunConfig,
    data: DataDigests,
    descriptions_digest: str | None = None,
    *,
    resume: bool,
    force: bool,
) -> Start:
    """From where a run in a folder starts; but for a finished one, the folder is to be held first (`hold`).

    Args:
        data: digests of the data as they are now.
        descriptions_digest: of the descriptions as they are now, where the method reads any.
        resume: go on with an unfinished run.
        force: replace what is there.

    Returns:
        "done" for a finished run of the same configuration and data, "resume" for an unfinished one that
        may go on, else "new".

    Raises:
        InputError: another run, an unfinished one, or something else is there; or it cannot be written to.
    """
    if force or not (folder.path / RUN_FILE).exists():
        _require_free(folder, force)
        probe(folder.path)
        return "new"
    there = RunInfo.read(folder.path)
    changed = changed_keys(upgraded_config(there, folder.checkpoint), config)
    if changed:
        raise InputError(
            f"{folder.path} holds a run with another configuration: {', '.join(changed)}",
            hint="repeat its settings, give another folder with --out, or replace it with --force",
        )
    if not there.data.matches(data):
        raise InputError(
            f"data set {config.data!r} has changed since the run in {folder.path}",
            hint="restore it, give another folder with --out, or replace the run with --force",
        )
    if (there.descriptions and there.descriptions.digest) != descriptions_digest:
        raise InputError(
            f"the descriptions of the classes of {config.data!r} have changed since the run in {folder.path}",
            hint="restore them, give another folder with --out, or replace the run with --force",
        )
    if there.status == "finished":
        folder.load(there)
        return "done"
    if not resume:
        raise InputError(
            f"{folder.path} holds an unfinished run ({there.status})",
            hint="go on with --resume, or start over with --force",
        )
    probe(folder.path)
    return "resume" if folder.checkpoint.exists() else "new"


def _require_free(folder: RunFolder, force: bool) -> None:
    """What others have put there stays: beside a run if that is meant, never under the names of its files."""
    place = folder.path
    if place.is_dir() and not force and set(place.iterdir()) - {*parts(place), folder.claims}:
        raise InputError(
            f"{place} is not empty, and holds no run", hint="choose another folder with --out, or use --force"
        )
    _refuse(place, folder.foreign())


def require_own(folder: RunFolder, files: Iterable[str]) -> None:
    """Fail where a run that goes on would write a file that it had not, and that is there: it is somebody's.

    Raises:
        InputError: names the file.
    """
    own = folder.own()
    _refuse(folder.path, [name for name in files if name not in own and os.path.lexists(folder.path / name)])


def _refuse(place: Path, foreign: Sequence[str]) -> None:
    if foreign:
        raise InputError(
            f"{place / foreign[0]} was not written by a run, and would be lost",
            hint="move it away, or choose another folder with --out",
        )
