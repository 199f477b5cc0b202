"""Work that any number of processes share: each takes what is free, until none is left.

Who does again what is done (`--force`) cannot share: it has the folder to itself, and the others wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from vlmprompt.claims.claim import BusyError, Claim, claim, holders
from vlmprompt.claims.place import FOLDER
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress

# Between two looks at what others hold; each wait is twice the last.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
ALONE, TIDY = "alone", "tidy"
Item = TypeVar("Item")


def take(
    items: Iterable[Item],
    attempt: Callable[[Item], None],
    progress: Progress,
    *,
    patient: bool = True,
) -> Iterator[Item]:
    """Do what is free, then look again at what was not, until none is left; yields each item that is done.

    What another process holds it finishes, which a later attempt finds; or it dies, and the next attempt is the one
    that takes over.

    Args:
        attempt: does an item, or finds it done; raises BusyError where it is not free.
        patient: wait while others hold all that is left; progress says for whom.

    Raises:
        BusyError: others hold all that is left, and nobody is to wait.
    """
    left, wait_s, said = list(items), FIRST_WAIT_S, ""
    while left:
        busy: list[tuple[Item, BusyError]] = []
        for item in left:
            try:
                attempt(item)
            except BusyError as error:
                busy.append((item, error))
                continue
            wait_s = FIRST_WAIT_S
            yield item
        stuck = len(busy) == len(left)
        left = [item for item, _ in busy]
        if not stuck:
            continue
        first = busy[0][1]
        if not patient:
            raise first
        text = f"waiting for {first.thing}: {first.owner} has it"
        if text != said:
            progress.message(text)
        said = text
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


@contextmanager
def shared(folder: Path, progress: Progress, *, alone: bool) -> Iterator[None]:
    """Work in a folder: beside others, once nobody has it alone; or alone, once nobody else is at work below it."""
    place = f"all of {folder}"
    with ExitStack() as stack:
        held: list[Claim] = []

        def enter(_: str) -> None:
            held.append(stack.enter_context(claim(folder, ALONE, place)))

        def look(_: str) -> None:
            if (folder / FOLDER / ALONE).exists():
                with claim(folder, ALONE, place):  # or its holder is dead
                    pass

        def clear(_: str) -> None:
            for owner in holders(folder, held[0]):
                raise BusyError(f"work in {folder}", owner)

        for attempt in (enter, clear) if alone else (look,):
            list(take([ALONE], attempt, progress))
        yield
        tidy(folder)


def tidy(folder: Path) -> None:
    """Remove claims of the dead in a folder and below it: of what is done nobody may ever want them again."""
    for claims in list(folder.rglob(FOLDER)):
        # Whoever gives a claim up takes those of the dead along.
        with suppress(InputError), claim(claims.parent, TIDY, f"claims in {claims.parent}"):
            pass
