"""What a method says of itself is checked before it is used: a slip would otherwise be without effect, or fail late."""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import cache
from typing import Any, get_args

from vlmprompt.backbones.types import ImageNeeds, LocalKind, SpaceKind
from vlmprompt.config.keys import FIXED_FIELDS, option_fields, unfit_options
from vlmprompt.config.overrides import require_known, shipped
from vlmprompt.errors import PluginError, nearest
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.overridden import near_miss, uncallable
from vlmprompt.methods.requirements import CAPABILITIES, REQUIREMENTS
from vlmprompt.registry import Entry


def require_type(entry: Entry) -> type[PromptMethod]:
    """The class of a registered method, what it declares checked.

    Raises:
        PluginError: it cannot be loaded, is no `PromptMethod`, names a capability or requirement that there is not, or
            has a hook misspelt or with arguments that it will not be given.
    """
    target = entry.load()
    if not (isinstance(target, type) and issubclass(target, PromptMethod)):
        what = f"class {target.__name__}" if isinstance(target, type) else f"a {type(target).__name__}"
        raise _wrong(entry, f"{entry.target} is not a PromptMethod but {what}", "name a subclass of PromptMethod")
    _require_names(entry, "capabilities", target.capabilities, CAPABILITIES)
    _require_names(entry, "requires", target.requires, REQUIREMENTS)
    _require_names(entry, "passing", target.passing)
    _require_hooks(entry)
    return target


def require_config(entry: Entry) -> type[MethodConfig]:
    """The class of a registered method's options.

    Raises:
        PluginError: it cannot be loaded, or is no `MethodConfig`.
    """
    config: Any = entry.load_config()
    if config is None:
        return MethodConfig
    if not (isinstance(config, type) and issubclass(config, MethodConfig)):
        raise _wrong(entry, f"config = {entry.config} is not a MethodConfig", "name a subclass of MethodConfig")
    _require_spelling(entry, config, MethodConfig)
    if reason := unfit_options(config):
        raise _wrong(entry, reason, f"see {entry.config}")
    return config


@cache
def require_overrides(entry: Entry) -> None:
    """Look at the settings that a method ships.

    Raises:
        PluginError: the file is missing or malformed, or sets a key that there is not.
    """
    fields = {**FIXED_FIELDS, **option_fields(require_config(entry))}
    require_known(shipped(entry.overrides, entry.told), fields, str(entry.overrides), entry.told)


def require_built(method: PromptMethod, entry: Entry) -> None:
    """Look at what a method says once it is made.

    Raises:
        PluginError: a capability that there is not, or local features that no tower has.
    """
    _require_names(entry, "capabilities", method.capabilities, CAPABILITIES)
    needs: Any = method.image_needs()
    if not isinstance(needs, ImageNeeds):
        raise _wrong(entry, f"image_needs() gives a {type(needs).__name__}", "return an ImageNeeds")
    for name, allowed in (("local", (None, *get_args(LocalKind))), ("space", get_args(SpaceKind))):
        value = getattr(needs, name)
        if value not in allowed:
            raise _wrong(entry, f"image_needs() asks for {name} = {value!r}", _allowed(value, allowed))
    for name in ("global_", "grad"):
        if not isinstance(getattr(needs, name), bool):
            raise _wrong(entry, f"image_needs() asks for {name} = {getattr(needs, name)!r}", "allowed: True, False")


@cache
def _require_hooks(entry: Entry) -> None:
    cls: type[PromptMethod] = entry.load()
    _require_spelling(entry, cls, PromptMethod)
    if found := uncallable(cls):
        raise _wrong(entry, f"{cls.__name__}.{found[0]}", f"write it like {found[1]}")


def _require_spelling(entry: Entry, cls: type, base: type) -> None:
    if found := near_miss(cls, base):
        name, meant = found
        step = f"did you mean {meant!r}? A helper of its own begins with an underscore: '_{name}'"
        raise _wrong(entry, f"{cls.__name__}.{name} is nothing that {base.__name__} has", step)


def _require_names(entry: Entry, what: str, given: Any, known: Iterable[str] | None = None) -> None:
    """A set of names, of those that are known; None: of any."""
    if not isinstance(given, Set | list | tuple) or not all(isinstance(name, str) for name in given):
        raise _wrong(entry, f"{what} = {given!r} is no set of names", f"write {what} = frozenset({{...}})")
    for name in () if known is None else sorted(set(given) - set(known)):
        raise _wrong(entry, f"{what} holds an unknown name {name!r}", _allowed(name, sorted(known or ())))


def _allowed(given: object, allowed: Iterable[object]) -> str:
    """All that may stand there, and what was probably meant."""
    near = nearest(given, [one for one in allowed if isinstance(one, str)], limit=1) if isinstance(given, str) else []
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}allowed: {', '.join(map(str, allowed))}"


def _wrong(entry: Entry, what: str, step: str) -> PluginError:
    return PluginError(f"{entry.told}: {what}", hint=f"{step}; {entry.author}")
