"""A run that was begun knows its configuration: what is given to go on with it has to agree."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import BASE, Resolved, Said, UnsaidError
from vlmprompt.errors import InputError
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.provenance import changed_keys
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.upgraded import upgraded_config


class Resolve(Protocol):
    """See `config.resolve`, with all that was given."""

    def __call__(self, *, base: RunConfig | None = None) -> Resolved: ...


def resolve_begun(folder: Path, resolve: Resolve) -> Resolved:
    """The configuration to go on with in a folder: that of the run there, or what is given where there is none.

    Raises:
        InputError: what is given differs from the run's own; or there is no run, and nothing says what to train.
        UsageError, PluginError: see `config.resolve`.
    """
    if not (folder / RUN_FILE).exists():
        return _resolve_new(folder, resolve)
    info = RunInfo.read(folder)
    begun = upgraded_config(info, RunFolder(folder).checkpoint)
    given = resolve(base=begun)
    changed = changed_keys(begun, given.run)
    if given.run.method != info.config.method:  # whose options say nothing of the other's
        changed = [f"method ({info.config.method!r} -> {given.run.method!r})"]
    if changed:
        raise InputError(
            f"{folder} holds a run with another configuration: {', '.join(changed)}",
            hint="--out and --resume alone go on with it as it is; for another run give another folder, or --force",
        )
    sources = {key: info.sources.get(key, BASE) for key in given.said}
    return Resolved(begun, {key: (Said(sources[key], said[-1].value),) for key, said in given.said.items()})


def _resolve_new(folder: Path, resolve: Resolve) -> Resolved:
    try:
        return resolve()
    except UnsaidError as error:
        raise InputError(
            f"there is no run in {folder} to go on with",
            hint="name the folder of a run that was begun, or say what is to be trained: --method, --data",
        ) from error
