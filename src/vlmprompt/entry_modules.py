"""The entry module of a plugin: imported, and held against the API it asks for and the hooks there are."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pluggy

from vlmprompt import hookspecs
from vlmprompt.compatibility import REQUIRES, VERSION, unmet
from vlmprompt.errors import PluginError, did_you_mean

API = "vlmprompt.api"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("register_"))
_MISSING_NAME = re.compile(r"cannot import name '(\w+)'")


class UnmetError(PluginError):
    """A plugin needs another version of the API; the message says which, and the next step."""


def import_entry(point: EntryPoint) -> Any:
    """What an entry point names, whose needs are met.

    Raises:
        UnmetError: it needs another version of the API.
        PluginError: it imports a name from `vlmprompt.api` that there is not.
    """
    try:
        module = point.load()
    except Exception as error:
        # Its `REQUIRES_API` explains an import that fails for want of what a newer version has.
        _require(_written(point.module))
        if isinstance(error, ImportError) and error.name == API and (name := _MISSING_NAME.search(str(error))):
            raise _no_such_name(name[1]) from error
        raise
    _require(getattr(module, REQUIRES, None))
    return module


def fit(module: Any) -> pluggy.PluginManager:
    """Register a plugin with a manager of its own: it cannot meet another's hooks, and nothing stays of one that fails.

    Raises:
        PluginError: a hook takes other arguments than it is given.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for name, function in _implementations(manager, module):
        _check_arguments(name, function)
    manager.register(module)
    return manager


def check_hooks(manager: pluggy.PluginManager, module: Any) -> None:
    """Look for hooks that there are not.

    Raises:
        PluginError: names the first; or the module has no hook at all.
    """
    callers = manager.get_hookcallers(module) or []
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as e:
        unknown = next(caller.name for caller in callers if not caller.has_spec())
        raise PluginError(f"there is no hook {unknown!r}", hint=did_you_mean(unknown, HOOKS)) from e
    if callers:
        return
    for name in (name for name in HOOKS if inspect.isfunction(getattr(module, name, None))):
        raise PluginError(f"its {name} is not marked as a hook", hint="put @vlmprompt.api.hookimpl above it")
    raise PluginError("it implements no hook", hint="mark its functions with @vlmprompt.api.hookimpl")


def _implementations(manager: pluggy.PluginManager, module: Any) -> Iterator[tuple[str, Callable[..., object]]]:
    """The known hooks that a module implements."""
    for name in HOOKS:
        if hasattr(module, name) and manager.parse_hookimpl_opts(module, name) is not None:
            yield name, getattr(module, name)


def _check_arguments(name: str, function: Callable[..., object]) -> None:
    """pluggy passes by name what a function asks for, and no more; without its one argument, a hook does nothing."""
    given = list(inspect.signature(getattr(hookspecs, name)).parameters)
    own = inspect.signature(function).parameters.values()
    needed = [p.name for p in own if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed != given:
        raise PluginError(
            f"{name}({', '.join(needed)}) takes other arguments than the hook is given",
            hint=f"write it as def {name}({', '.join(given)}): the names count",
        )


def _require(wanted: object) -> None:
    if reason := unmet(wanted):
        raise UnmetError(reason)


def _written(module: str) -> object:
    """`REQUIRES_API` as it stands in the text of a module that cannot be imported; None where it does not."""
    with suppress(Exception):  # whatever is wrong with it, its own error is the one to tell
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            return None
        for step in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
            if isinstance(step, ast.Assign) and [ast.unparse(target) for target in step.targets] == [REQUIRES]:
                return ast.literal_eval(step.value)
    return None


def _no_such_name(name: str) -> PluginError:
    meant = did_you_mean(name, dir(sys.modules[API]), limit=1)
    step = f"{meant} or is it of a newer vlmprompt?" if meant.startswith("did you") else "upgrade vlmprompt"
    return PluginError(f"vlmprompt's API {VERSION} has no {name!r}, which it imports", hint=step)
