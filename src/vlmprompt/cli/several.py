"""A command in one of several processes that a launcher started for it: the first one speaks for all."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from vlmprompt import signals
from vlmprompt.cli import output
from vlmprompt.errors import UsageError
from vlmprompt.parallel.launched import Launch

# Those whose work can be divided, and what only shows something.
_DIVISIBLE = ("", "train", "evaluate")


def require_divisible(place: Launch | None, command: str, args: Sequence[str]) -> None:
    """Refuse a command that several processes would all do, each the whole of it.

    Raises:
        UsageError: names the command, and what to do instead.
    """
    what = "train --dry-run" if command == "train" and "--dry-run" in args else command
    if place is not None and what not in _DIVISIBLE:
        raise UsageError(
            f"{place.size} processes were launched for {what!r}, which is the work of one",
            hint="start it without torchrun or accelerate; 'sweep --jobs N' has several processes for several runs",
        )


@contextmanager
def with_others(place: Launch | None) -> Iterator[None]:
    """Around all that the processes do: they meet first, and an error of one of them ends all."""
    if place is None:
        yield
        return
    from vlmprompt.parallel.failure import PeerError
    from vlmprompt.parallel.meeting import joined, together

    try:
        with together():
            yield
    except PeerError:
        signals.finish()  # the launcher is about to stop this process, too
        raise
    joined().leave()


def one_of_several(place: Launch, run: Callable[[], int]) -> int:
    """Run a command; those behind the first process say nothing, but for an error that it does not tell.

    Returns:
        The exit code.
    """
    if place.rank == 0:
        return run()
    said = io.StringIO()
    output.begin(io.StringIO())
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = run()
    if code and _unheard():
        sys.stderr.write(f"process {place.rank + 1} of {place.size}:\n{said.getvalue()}")
    return code


def _unheard() -> bool:
    """Whether the first process does not know why this one has ended: they never met, or it is gone."""
    from vlmprompt.parallel.meeting import joined

    return joined().alone or joined().unheard
