"""The example package as a registered plugin, without an installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import vlmprompt_sot_glp
from vlmprompt.plugins import host
from vlmprompt.registry import Source

SOURCE = Source("sot_glp", "vlmprompt-sot-glp", "0.1.0.dev0")


@contextmanager
def registered() -> Iterator[None]:
    """Within, the method `sot_glp` is known."""
    methods = host().methods
    if "sot_glp" in methods.names():  # somebody has installed it
        yield
        return
    vlmprompt_sot_glp.register_methods(register=partial(methods.register, source=SOURCE))
    try:
        yield
    finally:
        methods.withdraw(SOURCE)
