"""What a method's class overrides, held against the hooks: a slip would have no effect, or fail in training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.hooks import Hooks

_CORE = "vlmprompt."
SHORTEST = 4  # letters of a hook that can be misspelt: `fit` is one letter from too many honest names
LONG = 10  # from so many letters on, two slips are still the same word
# What the toolkit sets and a method only reads, so that nobody means these by another name.
_GIVEN = frozenset({"template", "val_search"})
# Arguments that the toolkit gives a hook only where it takes them.
_WELCOME = {"loss": frozenset({"draws", "weights"})}


def near_miss(cls: type, base: type) -> tuple[str, str] | None:
    """A public name of a class that is most likely meant for one of its base's; None where there is none.

    Near is what is one slip away: a letter too many, too few, another, or two exchanged; two slips in names of ten
    letters and more. It counts only where the class leaves the hook itself alone: beside a `text_prompts` of its own, a
    helper may be called `text_prompt`. Names that begin with an underscore are never looked at.

    Returns:
        The name, and what it was probably meant to be.
    """
    own = [name for part in _own(cls) for name in _defined(part) if not name.startswith("_")]
    hooks = [name for name in _public(base) if len(name) >= SHORTEST and name not in own]
    for name in (name for name in own if not hasattr(base, name) and name not in getattr(cls, "model_fields", ())):
        for hook in hooks:
            if slips(name, hook) <= (2 if min(len(name), len(hook)) >= LONG else 1):
                return name, hook
    return None


def uncallable(cls: type[PromptMethod]) -> tuple[str, str] | None:
    """A hook that a class overrides with something that cannot be called as the hook is; None where there is none.

    Returns:
        What the class says, and what it should be like.
    """
    for name in ("__init__", *(name for name in _public(PromptMethod) if callable(getattr(PromptMethod, name)))):
        owner = next(part for part in cls.__mro__ if name in vars(part))
        if owner.__module__.startswith(_CORE):
            continue
        expected = inspect.signature(getattr(PromptMethod, name))
        bound = isinstance(inspect.getattr_static(PromptMethod, name), classmethod)
        given = inspect.getattr_static(cls, name)
        shown = f"{'@classmethod ' if bound else ''}{name}{_shown(expected, bound)}"
        if not callable(getattr(cls, name)):
            return f"{name} = {getattr(cls, name)!r} is no method", shown
        if bound and not isinstance(given, classmethod | staticmethod):
            return f"{name} is no class method", shown
        function = getattr(cls, name)
        if not _takes(function, expected, _WELCOME.get(name, frozenset())):
            return f"{name}{_shown(inspect.signature(function), bound)} cannot be called as it will be", shown
    return None


def slips(a: str, b: str) -> int:
    """Letters too many, too few or wrong, and neighbours exchanged (optimal string alignment distance)."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y)))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


def _own(cls: type) -> Sequence[type]:
    """The part of a class's ancestry that its package has written."""
    ours = (PromptMethod, MethodConfig)
    return [part for part in cls.__mro__ if issubclass(part, ours) and not part.__module__.startswith(_CORE)]


def _defined(part: type) -> Iterator[str]:
    yield from vars(part)
    yield from inspect.get_annotations(part)


@cache
def _public(base: type) -> tuple[str, ...]:
    """What an author may override: for a method the hooks, not what the toolkit does with it."""
    ours = [part for part in Hooks.__mro__ if part.__module__.startswith(_CORE)]
    parts = ours if base is PromptMethod else [base]
    names = dict.fromkeys(name for part in parts for name in _defined(part) if not name.startswith(("_", "model_")))
    if base is PromptMethod:  # what only an instance has is no hook
        return tuple(name for name in names if hasattr(base, name) and name not in _GIVEN)
    return tuple(names)


def _takes(function: Any, expected: inspect.Signature, welcome: frozenset[str]) -> bool:
    """Whether a function can be called with all that a hook is called with."""
    kinds = {p.name: p.kind for p in expected.parameters.values()}
    positional = [name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    named = [name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY and name not in welcome]
    try:
        inspect.signature(function).bind(*positional, **dict.fromkeys(named))
    except TypeError:
        return False
    return True


def _shown(signature: inspect.Signature, bound: bool) -> str:
    """Names alone, as they would be written behind `def`."""
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    if bound and (not parameters or parameters[0].name != "cls"):
        parameters.insert(0, inspect.Parameter("cls", inspect.Parameter.POSITIONAL_OR_KEYWORD))
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
