"""The directories and files of claims: whose they are, whether their holder is dead, and their removal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vlmprompt.claims.owner import Owner
from vlmprompt.regular import regular

FOLDER = ".claims"
# Without a heartbeat for so long a holder is dead. Code that keeps Python's lock for minutes starves the heart, so a
# holder on another machine, which cannot be asked, is given ten of them.
STALE_S = 600.0


def holder(place: Path) -> tuple[Path, Owner | None] | None:
    """The file of whoever holds a claim, and what it says; None where nobody does."""
    try:
        for file in place.iterdir():
            return file, owner_in(file)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def owner_in(file: Path) -> Owner | None:
    """Who a claim's file says that it is; None where it says nothing, or is no file that could.

    Raises:
        FileNotFoundError, NotADirectoryError: it is gone.
    """
    try:
        return Owner.parse(regular(file).read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError:
        return None


def is_stale(file: Path, owner: Owner | None, fresh: Path) -> bool:
    """Whether a holder is dead, as far as can be told.

    Args:
        fresh: a file that was written just now.
    """
    if owner is not None and owner.is_gone():
        return True
    return fresh.stat().st_mtime - file.stat().st_mtime > STALE_S


def tidy(claims: Path, fresh: Path) -> None:
    """Remove what the dead have left, for nobody may ever want it again."""
    with suppress(OSError):
        for place in list(claims.iterdir()):
            found = holder(place)
            if found is None:
                rmdir(place)
            elif is_stale(*found, fresh):
                remove(found[0])


def remove(file: Path) -> None:
    """Remove a token's file, the claim that it made, and the folder of claims if that was the last."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
    rmdir(file.parent)
    rmdir(file.parent.parent)


def rmdir(folder: Path) -> None:
    """Remove a folder that is empty."""
    with suppress(OSError):
        folder.rmdir()
