"""What a command imports for seconds: a line that says so, so that nobody wonders whether it hangs; and no search for
garbage in the midst of it, where there is none."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from vlmprompt.collector import paused

SLOW = "torch"


class _Announcer(MetaPathFinder):
    """Asked first, whoever imports; finds one module, once."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Where the others find it, with a loader that leaves garbage alone."""
        if fullname != SLOW:
            return None
        sys.meta_path.remove(self)
        if not self._quiet:
            print(f"loading {SLOW}, which takes some seconds ...", file=sys.stderr, flush=True)
        spec: Any = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _for_good(spec.loader.exec_module)
        return spec


def _for_good(load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    """Load a module that stays: its objects are no garbage, now or later."""

    def loaded(module: ModuleType) -> None:
        with paused():
            load(module)
            gc.freeze()

    return loaded


@contextmanager
def announced(*, quiet: bool) -> Iterator[None]:
    """Within, the first import of torch is announced on stderr, unless quiet or it is there already."""
    announcer: Any = _Announcer(quiet)
    if SLOW not in sys.modules:
        sys.meta_path.insert(0, announcer)
    try:
        yield
    finally:
        if announcer in sys.meta_path:
            sys.meta_path.remove(announcer)
