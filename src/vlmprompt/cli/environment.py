"""Environment variables as commands read them: widths that are ones, and names that mean something."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vlmprompt.errors import did_you_mean
from vlmprompt.plugins import DISABLE, STRICT, PluginHost

PREFIX = "VLMPROMPT_"
# Besides the configuration of a run: VLMPROMPT_SHOTS, VLMPROMPT_TRAIN_LR, VLMPROMPT_OPTIONS_N_CTX, ...
_OTHERS = (
    "CACHE_DIR",
    "FEATURE_CACHE",
    "FEATURE_DTYPE",
    "FEATURE_LIMIT",
    "IMAGE_TOWER",
    "JOBS",
    "ROOT",
    "RUNS_DIR",
    "TEXT_MEMORY",
)
KNOWN = {DISABLE, STRICT} | {PREFIX + name for name in _OTHERS}
# Rich, typer and shutil read these, and each fails in a way of its own on what is no width.
_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
_LEAST, _MOST = 20, 10_000


def settle_sizes() -> None:
    """Leave sizes of the terminal that can be worked with, and forget those that are none."""
    for name in _SIZES:
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit() and int(text[:9]):
            os.environ[name] = str(min(max(int(text[:9]), _LEAST), _MOST))
        else:
            os.environ.pop(name, None)


def unknown_variables(host: PluginHost) -> Iterator[str]:
    """A line for each of our variables that nothing reads; a plugin may have some of its own, named after it."""
    sources = [info.source for info in host.plugins]
    own = tuple(f"{PREFIX}{_upper(name)}_" for s in sources for name in (s.plugin, s.distribution))
    odd = [name for name in sorted(os.environ) if name.upper().startswith(PREFIX) and not name.upper().startswith(own)]
    if not set(odd) - KNOWN:
        return
    from vlmprompt.config.keys import FIXED_FIELDS
    from vlmprompt.config.layers import TABLES

    known = KNOWN | {PREFIX + _upper(key) for key in FIXED_FIELDS}
    tables = tuple(f"{PREFIX}{table.upper()}_" for table in TABLES)  # their keys are checked with the method's
    for name in odd:
        if name.upper() not in known and not name.upper().startswith(tables):
            yield f"nothing reads the environment variable {name}; {did_you_mean(name.upper(), known)}"


def _upper(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")
