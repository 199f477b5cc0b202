"""All that `vlmprompt.api` promises, as text: `python -m tests.host.signatures` writes it to tests/golden/api.txt.

A line a thing, so that a diff reads as a list of what was added, changed and removed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vlmprompt import api, hookspecs

FILE = Path(__file__).parents[1] / "golden" / "api.txt"
OURS = "vlmprompt."
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def signatures() -> str:
    """Names in alphabetical order; below a class, its public members, with those of bases that are no names here."""
    hooks = [(f"hook {name}", getattr(hookspecs, name)) for name in vars(hookspecs) if name.startswith("register_")]
    named = [(name, getattr(api, name)) for name in api.__all__]
    return "\n".join(line for name, value in [*named, *sorted(hooks)] for line in _lines(name, value)) + "\n"


def _lines(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = [base.__name__ for base in value.__bases__ if base is not object]
        yield f"class {name}({', '.join(bases)})"
        yield from (f"    {line}" for line in sorted(_members(value)))
    elif inspect.isfunction(value) and value.__module__.startswith(OURS):
        yield f"{name}{_signature(value)}"
    elif inspect.isfunction(value):  # of a library, whose signature is its own affair
        yield f"{name} of {value.__module__.partition('.')[0]}"
    elif " object at 0x" in repr(value):  # an object that its library may keep elsewhere in another version
        yield f"{name} of {type(value).__module__.partition('.')[0]}"
    else:
        yield f"{name} = {_plain(value)}"


def _members(cls: type) -> Iterator[str]:
    seen: set[str] = set()
    for base in cls.__mro__:
        promised = base is not cls and getattr(api, base.__name__, None) is base
        if promised or not base.__module__.startswith(OURS):
            continue
        for name, value in {**dict.fromkeys(inspect.get_annotations(base), ...), **vars(base)}.items():
            if name in seen or (name.startswith("_") and name not in ("__init__", "__call__")):
                continue
            seen.add(name)
            yield from _member(base, name, value)


def _member(base: type, name: str, value: Any) -> Iterator[str]:
    kinds = {staticmethod: "static ", classmethod: "class "}
    generated = issubclass(base, BaseModel) or getattr(base, "_is_protocol", False)
    # Names with model_ are pydantic's, and which of them stand in a class depends on its version.
    if name.startswith("model_") or (name == "__init__" and generated):
        return
    if isinstance(value, staticmethod | classmethod):
        yield f"{kinds[type(value)]}{name}{_signature(value.__func__)}"
    elif inspect.isfunction(value):
        yield f"{name}{_signature(value)}"
    elif isinstance(value, property) or type(value).__name__ == "cached_property":
        getter = getattr(value, "fget", None) or value.func
        yield f"{name} -> {inspect.signature(getter).return_annotation}"
    else:
        annotation = inspect.get_annotations(base).get(name)
        yield f"{name}{f': {annotation}' if annotation else ''}{_default(base, name, value)}"


def _default(base: type, name: str, value: Any) -> str:
    if issubclass(base, BaseModel) and name in base.model_fields:
        field = base.model_fields[name]
        return "" if field.is_required() else f" = {_plain(field.get_default(call_default_factory=True))}"
    described = value is ... or inspect.ismemberdescriptor(value)  # a field without default; a slot
    return "" if described else f" = {_plain(value)}"


class _AsWritten(str):
    """An annotation, shown without quotes."""

    __repr__ = str.__str__


def _signature(function: Any) -> str:
    found = inspect.signature(function)
    parameters = [p.replace(annotation=_as_written(p.annotation)) for p in found.parameters.values()]
    shown = found.replace(parameters=parameters, return_annotation=_as_written(found.return_annotation))
    return ADDRESS.sub("", str(shown))


def _as_written(annotation: Any) -> Any:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation


def _plain(value: Any) -> str:
    """A value, the same in every process."""
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return ADDRESS.sub("", repr(value)).replace("PosixPath", "Path").replace("WindowsPath", "Path")


if __name__ == "__main__":
    FILE.write_text(signatures(), encoding="utf-8")
