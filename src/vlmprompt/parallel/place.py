"""Where the processes of a run write: the first into the run's folders, each other into some that are thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vlmprompt.parallel.group import Group


@contextmanager
def own_place(group: Group, folder: Path) -> Iterator[Path]:
    """A folder as this process has it: itself, or one of the same name of which nothing stays."""
    if group.first:
        yield folder
        return
    with TemporaryDirectory(prefix="vlmprompt-", ignore_cleanup_errors=True) as path:
        yield Path(path) / folder.resolve().name
