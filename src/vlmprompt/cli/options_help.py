"""The options of a pydantic model, for `show` commands: name, type with bounds, default, meaning and source."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
_NAMES = {"str": "text", "float": "number", "int": "integer", "bool": "true | false"}


def describe(config: type[BaseModel]) -> list[dict[str, Any]]:
    """Every option as a row of JSON types; `description` holds meaning, unit and source."""
    return rows(config.model_fields)


def rows(fields: Mapping[str, FieldInfo]) -> list[dict[str, Any]]:
    """As `describe`, of fields by name."""
    return [_row(name, field) for name, field in fields.items()]


def page(options: Sequence[dict[str, Any]]) -> str:
    """The rows of `describe` for people: a line with name, type and default, and the description below.

    Then the value and its `source`, of rows that have one.
    """
    from vlmprompt.config.keys import show_value

    indent = " " * 6
    lines = []
    for row in options:
        default = "required" if row["required"] else f"default {show_value(row['name'], row['default'])}"
        lines.append(f"  {row['name']}  ({row['type']}; {default})")
        lines += textwrap.wrap(row["description"], _width(), initial_indent=indent, subsequent_indent=indent)
        if "source" in row:
            lines.append(f"{indent}here {show_value(row['name'], row['value'])}, from {row['source']}")
    return "\n".join(lines) or "  none"


def reflow(doc: str) -> str:
    """A docstring whose plain paragraphs fit the terminal; indented ones and lists keep their lines."""
    paragraphs = doc.split("\n\n")
    return "\n\n".join(p if re.search(r"^(\s|[-*] )", p, re.M) else textwrap.fill(p, _width()) for p in paragraphs)


def wrapped(text: str, *, indent: int) -> str:
    """One long line as several that fit the terminal, the later ones indented twice as much; names stay whole."""
    first, later = " " * indent, " " * 2 * indent
    whole = textwrap.TextWrapper(
        _width(), initial_indent=first, subsequent_indent=later, break_on_hyphens=False, break_long_words=False
    )
    return whole.fill(text)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)


def _row(name: str, field: FieldInfo) -> dict[str, Any]:
    required = field.is_required()
    bounds = [f"{sign} {getattr(m, key)}" for m in field.metadata for key, sign in _BOUNDS.items() if hasattr(m, key)]
    base, optional, _ = type_name(field.annotation).partition(" or none")
    return {
        "name": name,
        "type": f"{base} {' and '.join(bounds)}".rstrip() + optional,
        "required": required,
        "default": None if required else field.get_default(call_default_factory=True),
        "description": field.description or "",
    }


def type_name(annotation: Any) -> str:
    """A type as users would say it: `gate | add`, `integer or none`, `list of integer`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(args[0])
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, UnionType):
        return " or ".join(type_name(arg) for arg in args)
    if annotation is NoneType:
        return "none"
    if origin is tuple and Ellipsis not in args:
        return f"[{', '.join(map(type_name, args))}]"
    if origin in (list, tuple, set, frozenset, Sequence) and args:
        return f"list of {type_name(args[0])}"
    if fields := getattr(annotation, "model_fields", None):
        return f"{{{', '.join(f'{name} = {type_name(field.annotation)}' for name, field in fields.items())}}}"
    name = getattr(annotation, "__name__", str(annotation))
    return _NAMES.get(name, name)
