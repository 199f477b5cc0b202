"""What plugins can rely on: the version of `vlmprompt.api`, which plugin needs which, and names on their way out.

docs/compatibility.md is the promise in words.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# Of the names in `vlmprompt.api`, the hooks and what they are called with. MINOR counts up when something is added,
# MAJOR when something that was promised goes or changes. It is no version of the package.
VERSION = "1.0"
REQUIRES = "REQUIRES_API"  # the attribute of an entry module that says which it needs
# A name still works, with a warning, in the version that replaces it and in so many minor versions behind that.
KEPT_MINORS = 2
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)")


def unmet(wanted: object, installed: str = VERSION) -> str | None:
    """Why a plugin that needs some version of the API cannot work with the installed one; None where it can.

    Args:
        wanted: the value of its `REQUIRES_API`; None where it says nothing.
    """
    if wanted is None:
        return None
    match = _VERSION.fullmatch(wanted) if isinstance(wanted, str) else None
    if match is None:
        return f'says {REQUIRES} = {wanted!r}, which must be "MAJOR.MINOR" such as "{installed}": tell its author'
    if _parts(match[0]) <= _parts(installed) and _parts(match[0])[0] == _parts(installed)[0]:
        return None
    newer = _parts(match[0]) > _parts(installed)
    step = "upgrade vlmprompt" if newer else "install a newer version of the plugin, or an older vlmprompt"
    return f"needs vlmprompt's API {match[0]}, installed is {installed}: {step}"


@dataclass(frozen=True)
class Deprecated:
    """A name that is going.

    Attributes:
        target: "package.module:attribute" that it still stands for.
        instead: what to write in its place.
        since: the API's version that was the first to warn.
    """

    target: str
    instead: str
    since: str

    @property
    def gone_in(self) -> str:
        """The first version without it."""
        major, minor = _parts(self.since)
        return f"{major}.{minor + KEPT_MINORS}"


def deprecated(module: str, name: str, names: Mapping[str, Deprecated]) -> Any:
    """The value of a name that is going, with a warning for who asked a module for it.

    To be called by the module's `__getattr__`.

    Args:
        module: its name, for messages.
        names: all of its names that are going.

    Raises:
        AttributeError: the name is none of them.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    old = names[name]
    warnings.warn(
        f"{module}.{name} is deprecated since API {old.since} and gone in {old.gone_in}: use {old.instead}",
        DeprecationWarning,
        stacklevel=3,
    )
    home, _, attribute = old.target.partition(":")
    return getattr(import_module(home), attribute)


def _parts(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)
