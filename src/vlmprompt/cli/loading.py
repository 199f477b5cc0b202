"""A line where a command is about to import what takes seconds, so that nobody wonders whether it hangs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

SLOW = "torch"


class _Announcer(MetaPathFinder):
    """Finds nothing; it is asked first, whoever imports."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Say so, once."""
        if fullname == SLOW:
            sys.meta_path.remove(self)
            print(f"loading {SLOW}, which takes some seconds ...", file=sys.stderr, flush=True)


@contextmanager
def announced(*, quiet: bool) -> Iterator[None]:
    """Within, the first import of torch is announced on stderr, unless quiet or it is there already."""
    announcer: Any = _Announcer()
    if not (quiet or SLOW in sys.modules):
        sys.meta_path.insert(0, announcer)
    try:
        yield
    finally:
        if announcer in sys.meta_path:
            sys.meta_path.remove(announcer)
