"""Which files of a store are in use, by processes that live: those are not pruned.

Whoever reads from a store writes the names of the files that it may open into `readers/<name>.json`, and holds a claim
of that name for as long as it may.
"""

from __future__ import annotations

import json
import os
import uuid
import weakref
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path

from vlmprompt.atomic import write_atomic
from vlmprompt.backbones.store.place import Store
from vlmprompt.claims.claim import claim
from vlmprompt.claims.look import looking
from vlmprompt.errors import InputError

READERS = "readers"


class Use:
    """That this process may read some files of a store, until the object is gone or closed.

    In a store that cannot be written to nothing is said: who cannot write there does not prune there either.

    Args:
        names: of the files, which need not be there yet.
    """

    def __init__(self, store: Store, names: Collection[str]) -> None:
        self._stack = ExitStack()
        name, folder = f"reading-{uuid.uuid4().hex[:16]}", store.folder
        with suppress(InputError):
            self._stack.enter_context(claim(folder, name, f"reading from {folder}"))
            list_of = folder / READERS / f"{name}.json"
            self._stack.callback(_remove, list_of)
            with store.changing():
                write_atomic(list_of, json.dumps(sorted(names)).encode())
        self.close = weakref.finalize(self, _close, self._stack, os.getpid())


def in_use(folder: Path) -> set[str]:
    """Names of the files that living processes may read; lists of the dead are removed."""
    found: set[str] = set()
    with looking(folder) as look:
        for path in sorted((folder / READERS).glob("*.json")):
            held = look.at([path.stem])
            if held is None or held.stale:
                _remove(path)
            else:
                with suppress(OSError, ValueError):
                    found |= {str(name) for name in json.loads(path.read_text(encoding="utf-8"))}
    return found


def _close(stack: ExitStack, pid: int) -> None:
    """Give it up; a fork of the process has nothing to give up."""
    if os.getpid() == pid:
        stack.close()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
