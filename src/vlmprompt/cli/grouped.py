"""Options that belong together, written once as a dataclass and given to a command as one argument:

    @grouped
    def train(flags: RunFlags, *, as_json: JsonFlag = False) -> None: ...

Typer makes options of a function's parameters and knows no dataclasses, so the parser is shown another signature: each
field of such a parameter as an option, in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter whose type is a dataclass in parts, one for each field."""
    signature = inspect.signature(command, eval_str=True)
    own = signature.parameters.values()
    types = {p.name: p.annotation for p in own if isinstance(p.annotation, type)}
    groups: dict[str, type[Any]] = {name: kind for name, kind in types.items() if is_dataclass(kind)}

    @functools.wraps(command)
    def with_groups(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    parts = [part for p in own for part in (_parts(groups[p.name]) if p.name in groups else [p])]
    shown = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in parts]
    with_groups.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return with_groups


def _parts(group: type[Any]) -> list[inspect.Parameter]:
    """A parameter for each field."""
    hints = get_type_hints(group, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(f.name, keyword, default=f.default, annotation=hints[f.name]) for f in fields(group)]
