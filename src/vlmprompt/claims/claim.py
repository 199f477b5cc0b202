"""Claims: who holds what in a folder that many processes share.

A claim on `name` is the directory `.claims/<name>/` with one file in it, which is called by its holder's token and
says who that is. It is taken by renaming a prepared directory onto that name, which a file system allows only where
nothing is, or an empty directory: of many takers one wins. It is given up, and taken from the dead, by removing the
file of that very token: nobody can remove another's. No locks of the file system are needed, so it holds on network
folders, too.

A claim is stale when its process is gone from this machine, or when its heartbeat (the file's time) is `STALE_S`
older than a file written just now: both by the clock of the file system, as those of machines may disagree.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vlmprompt.claims.owner import Owner
from vlmprompt.claims.place import FOLDER, holder, is_stale, owner_in, remove, rmdir, tidy
from vlmprompt.errors import InputError

# The heart beats in a thread of its own, and at every check; see `STALE_S`.
HEARTBEAT_S = 20.0
# Of `turn`, between two looks.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.1
TAKEN = {errno.ENOTEMPTY, errno.EEXIST}
ATTEMPTS = 1000  # at a claim that nobody holds and that still cannot be had


class BusyError(InputError):
    """Somebody else has it: not now (exit 3).

    Args:
        thing: what was wanted.
        owner: who has it, as far as that can be told.
        lost: this process had it, stood still, and was taken for dead.
    """

    def __init__(self, thing: str, owner: Owner | None, *, lost: bool = False) -> None:
        self.thing, self.owner = thing, "another process" if owner is None else str(owner)
        if lost:
            message = f"{thing} was taken over by {self.owner}, as this process stood still; it writes no more there"
            hint = "leave it to the other one; the same command later shows what it has done"
        else:
            message = f"{thing} is in use by {self.owner}"
            hint = "wait until that has ended, or stop it; then the same command goes on"
        super().__init__(message, hint=hint)


class Claim:
    """Something that this process holds; `claim` makes it.

    Args:
        folder: where it is held.
        name: of what is held, as a file's name.
        thing: the same for people.
        owner: this process.
    """

    def __init__(self, folder: Path, name: str, thing: str, owner: Owner) -> None:
        self.folder, self.thing, self.owner = folder, thing, owner
        self.place = folder / FOLDER / name
        self.file = self.place / owner.token
        self._stop = threading.Event()

    def check(self) -> None:
        """Make sure that it is still held, and let the others know; to be called before anything is written.

        Raises:
            BusyError: it was taken over.
        """
        # A folder that was deleted with all that lay in it is nobody's; the write that is to come will tell.
        if self.beat() or not self.folder.is_dir():
            return
        found = holder(self.place)
        raise BusyError(self.thing, None if found is None else found[1], lost=True)

    def beat(self) -> bool:
        """One heartbeat; whether the claim is still held."""
        try:
            os.utime(self.file)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a network that is away for a moment
            pass
        return True

    def hold(self) -> None:
        """Beat from now on."""
        threading.Thread(target=self._beat_on, name=f"claim on {self.thing}", daemon=True).start()

    def release(self) -> None:
        """Give it up."""
        self._stop.set()
        if self.beat():
            tidy(self.place.parent, self.file)
        remove(self.file)

    def _beat_on(self) -> None:
        while not self._stop.wait(HEARTBEAT_S) and self.beat():
            pass


class _Unwritable(Claim):
    """In a folder that this process cannot write to: there is nothing to trample."""

    def check(self) -> None:
        return None


@contextmanager
def claim(folder: Path, name: str, thing: str) -> Iterator[Claim]:
    """Hold something, so that no other process or thread does; what a dead holder left is taken over.

    Args:
        folder: made if it is not there, and removed again if it is left empty. In one that this process cannot
            write to nothing is held: it cannot trample anything there, and its writes tell.
        name: of what is held, as a file's name.
        thing: the same for people.

    Raises:
        BusyError: somebody has it.
        InputError: no claim can be kept there.
    """
    wanted = Claim(folder, name, thing, Owner.here())
    new = not folder.exists()
    try:
        _take(wanted)
    except OSError as error:
        if folder.is_dir() and not os.access(folder, os.W_OK):
            yield _Unwritable(folder, name, thing, wanted.owner)
            return
        raise _impossible(folder, error.strerror or str(error)) from error
    try:
        wanted.hold()
        yield wanted
    finally:
        wanted.release()
        if new:
            rmdir(folder)


@contextmanager
def turn(folder: Path, name: str, thing: str) -> Iterator[Claim]:
    """A claim for a moment: whoever has it gives it up soon, so it is waited for without a word."""
    wait_s = FIRST_WAIT_S
    with ExitStack() as stack:
        while True:
            try:
                held = stack.enter_context(claim(folder, name, thing))
                break
            except BusyError:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        yield held


def holders(folder: Path, mine: Claim) -> Iterator[Owner | None]:
    """Who else holds anything in a folder or below it, and lives."""
    mine.check()
    for path, _, files in os.walk(folder):  # which says nothing of what goes away meanwhile
        place = Path(path)
        for file in (place / name for name in files if place.parent.name == FOLDER):
            with suppress(FileNotFoundError):
                owner = owner_in(file)
                if file != mine.file and not is_stale(file, owner, mine.file):
                    yield owner


def _take(wanted: Claim) -> None:
    """Become the holder."""
    prepared = wanted.place.with_name(f".{wanted.owner.token}") / wanted.owner.token
    for _ in range(ATTEMPTS):
        try:
            _prepare(wanted, prepared)
            if _moved(prepared.parent, wanted):
                return
            found = holder(wanted.place)
            if found is None:
                rmdir(wanted.place)  # where a directory is not renamed onto another one, this has to go first
            elif is_stale(*found, prepared):
                found[0].unlink(missing_ok=True)
            else:
                raise BusyError(wanted.thing, found[1])
        except FileNotFoundError:  # somebody has tidied up meanwhile
            continue
        finally:
            remove(prepared)
    raise _impossible(wanted.folder, f"nobody holds {wanted.place.name}, and yet it cannot be had")


def _prepare(wanted: Claim, file: Path) -> None:
    """Make the directory that is to become the claim; whoever may write into the folder may claim, too."""
    wanted.folder.mkdir(parents=True, exist_ok=True)
    mode = wanted.folder.stat().st_mode & 0o2777 | 0o700
    for folder in (file.parent.parent, file.parent):
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(mode)
    file.write_text(wanted.owner.dump(), encoding="utf-8")


def _moved(prepared: Path, wanted: Claim) -> bool:
    """Whether the prepared directory has become the claim."""
    try:
        prepared.rename(wanted.place)
    except OSError as error:
        if error.errno not in TAKEN and not wanted.file.exists():  # if it is there, the network lost the answer
            raise
    return wanted.file.exists()


def _impossible(folder: Path, reason: str) -> InputError:
    return InputError(
        f"cannot write {folder}: no claim can be kept there ({reason})",
        hint="free space or change the permissions there, or choose another folder with --out",
    )
