"""What a run does whose folder vanishes under it: what is in memory goes into a folder beside it."""

from __future__ import annotations

import itertools
from pathlib import Path

from vlmprompt.atomic import unwritable, write_atomic
from vlmprompt.claims.claim import Claim
from vlmprompt.errors import InputError
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.log import TrainLog


class VanishedError(InputError):
    """The run's folder is gone; the run is in another one now.

    Attributes:
        folder: where it is.
    """

    def __init__(self, message: str, *, folder: RunFolder) -> None:
        super().__init__(message, hint=f"the same command with --resume --out {folder.path} goes on from there")
        self.folder = folder


def keep(checkpoint: Checkpoint, folder: RunFolder, claim: Claim, log: TrainLog | None = None) -> None:
    """Save a run's state in its folder or, if that is gone, beside it.

    Args:
        claim: on the folder.
        log: the run's log, where it has one.

    Raises:
        BusyError: the run is somebody else's by now.
        VanishedError: the folder is gone; names the one that the state is in.
        InputError: the state could be saved nowhere.
    """
    if not _gone(folder, log):
        claim.check()
        try:
            if log is not None:
                log.flush()
            checkpoint.save(folder.checkpoint)
            return
        except InputError:
            if not _gone(folder, log):
                raise
    raise _rescued(checkpoint, folder, log)


def _gone(folder: RunFolder, log: TrainLog | None) -> bool:
    return not folder.path.is_dir() if log is None else log.gone()


def _rescued(checkpoint: Checkpoint, folder: RunFolder, log: TrainLog | None) -> VanishedError:
    what = f"{folder.path} was removed, renamed or emptied while the run was going on"
    try:
        place = RunFolder(_new_folder(folder.path))
        if log is not None:
            write_atomic(place.log, log.content(), make_folder=False)
        checkpoint.save(place.checkpoint)
    except InputError as error:
        raise InputError(
            f"{what}, and its state cannot be saved beside it: {error.message}", hint=error.hint
        ) from error
    step = checkpoint.header.position.total
    return VanishedError(f"{what}; its state{f' after step {step}' if step else ''} is in {place.path}", folder=place)


def _new_folder(path: Path) -> Path:
    for number in itertools.count(1):
        place = path.with_name(f"{path.name}-rescued{'' if number == 1 else f'-{number}'}")
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritable(place, error) from error
        return place
    raise AssertionError("numbers do not end")
