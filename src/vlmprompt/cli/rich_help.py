"""Makes typer's help pages start quickly.

`typer.rich_utils` imports rich's renderers of Markdown and of tracebacks (and with them a Markdown parser and a
highlighter: a third of the time of `--help`), and uses neither here: help texts are rich markup, tracebacks are
plain. `load` imports it with stand-ins that fetch the real class when one is made.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

UNUSED = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}


def load() -> None:
    """Import `typer.rich_utils`; afterwards `sys.modules` holds nothing that is not real."""
    if "typer.rich_utils" in sys.modules:
        return
    stand_ins = {name: _stand_in(name, cls) for name, cls in UNUSED.items() if name not in sys.modules}
    sys.modules |= stand_ins
    try:
        importlib.import_module("typer.rich_utils")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _stand_in(module: str, cls: str) -> ModuleType:
    class Late:
        def __new__(cls_: type, *args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(module), cls)(*args, **kwargs)

    stand_in = ModuleType(module)
    setattr(stand_in, cls, Late)
    return stand_in
