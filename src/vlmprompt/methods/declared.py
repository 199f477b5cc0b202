"""What a method says of itself is checked before it is used: a slip would otherwise be without effect, or fail late."""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import cache
from typing import Any, get_args

from vlmprompt.backbones.types import ImageNeeds, LocalKind, SpaceKind
from vlmprompt.config.keys import FIXED_FIELDS, option_fields, unfit_options
from vlmprompt.config.limits import MOST_VIEWS
from vlmprompt.config.overrides import require_known, shipped
from vlmprompt.errors import CapabilityError, PluginError, nearest
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.groups import groups_of
from vlmprompt.methods.learning import Learning
from vlmprompt.methods.overridden import near_miss, uncallable
from vlmprompt.methods.passes import tower_is_frozen
from vlmprompt.methods.requirements import CAPABILITIES, REQUIREMENTS
from vlmprompt.methods.streaming import adapts
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
        PluginError: a capability that there is not, local features that no tower has, a way of learning that is none,
            or half of what adapting at test time takes.
        CapabilityError: it learns from features of images, but its image tower does not stay as it is.
    """
    _require_names(entry, "capabilities", method.capabilities, CAPABILITIES)
    needs: Any = method.image_needs()
    if not isinstance(needs, ImageNeeds):
        raise _wrong(entry, f"image_needs() gives a {type(needs).__name__}", "return an ImageNeeds")
    for name, allowed in (("local", (None, *get_args(LocalKind))), ("space", get_args(SpaceKind))):
        value = getattr(needs, name)
        if value not in allowed:
            raise _wrong(entry, f"image_needs() asks for {name} = {value!r}", _allowed(value, allowed))
    for name in ("global_", "grad", "prompt_outputs"):
        if not isinstance(getattr(needs, name), bool):
            raise _wrong(entry, f"image_needs() asks for {name} = {getattr(needs, name)!r}", "allowed: True, False")
    _require_fit(method, entry)
    _require_search(method, entry)
    _require_steps(method, entry)
    groups_of(method)
    _require_stream(method, entry)


def _require_fit(method: PromptMethod, entry: Entry) -> None:
    """Ways of fitting exclude each other, and `fit` is the method's own; features for it are computed once."""
    ways = sorted({"closed_form", "fit_first", "training_free"} & method.capabilities)
    if "fit_first" in ways and len(ways) > 1:
        step = "fit_first is for a method with a training loop, closed_form for one without"
        raise _wrong(entry, f"capabilities holds {' and '.join(map(repr, ways))}", step)
    if "fit_first" in ways and type(method).fit is Learning.fit:
        raise _wrong(entry, "capabilities holds 'fit_first', but there is no fit", "write fit(features, labels, val)")
    _require_views(entry, "fit_views", method.fit_views)
    if "fit_first" in ways:
        _require_frozen_tower(method, entry, "fits")


def _require_search(method: PromptMethod, entry: Entry) -> None:
    """What is searched has names, and a method that searches it."""
    _require_names(entry, "searched", method.searched)
    if not method.searched:
        return
    if "training_free" in method.capabilities:
        step = "training_free is for a method that learns nothing; closed_form for one without a loop"
        raise _wrong(entry, "capabilities holds 'training_free', but searched names what it chooses", step)
    if type(method).search_on_val is Learning.search_on_val:
        step = "write search_on_val(features, labels)"
        raise _wrong(entry, f"searched = {method.searched!r}, but there is no search_on_val", step)
    _require_frozen_tower(method, entry, f"chooses {', '.join(method.searched)}")


def _require_steps(method: PromptMethod, entry: Entry) -> None:
    """What a step of the loop is given, of a method that has a loop and takes it."""
    views = method.training_views
    _require_views(entry, "training_views", views)
    reads = type(method).reads_unlabelled
    if type(reads) is not bool or method.reads_unlabelled is not reads:
        raise _wrong(entry, "reads_unlabelled is not said by the class", "write reads_unlabelled = True in the class")
    if reads and type(method).unlabelled_loss is Learning.unlabelled_loss:
        raise _wrong(
            entry, "reads_unlabelled is True, but there is no unlabelled_loss", "write unlabelled_loss(output)"
        )
    # Of the class: an instance that an option leaves without a loop takes nothing of this.
    loopless = sorted({"closed_form", "training_free"} & type(method).capabilities)
    if loopless and (reads or views > 1):
        what = "reads_unlabelled" if reads else "training_views"
        raise _wrong(
            entry, f"{what} is for a training loop, and capabilities holds {loopless[0]!r}", f"leave {what} out"
        )


def _require_views(entry: Entry, what: str, views: Any) -> None:
    if type(views) is not int or not 1 <= views <= MOST_VIEWS:
        raise _wrong(entry, f"{what} = {views!r} is no number of views", f"a whole number from 1 to {MOST_VIEWS}")


def _require_frozen_tower(method: PromptMethod, entry: Entry, does: str) -> None:
    if not tower_is_frozen(method):
        raise CapabilityError(
            f"{entry.told} {does} on features of images that are computed once, and its image tower does not stay as "
            "it is: that needs the capability 'feature_cache', and no gradients through the tower",
            hint=f"leave out the option that changes the image tower, or {entry.author}",
        )


def _require_stream(method: PromptMethod, entry: Entry) -> None:
    """Adapting at test time takes a capability and a method of its own."""
    views: Any = method.test_views
    if type(views) is not int or views < 1:
        raise _wrong(entry, f"test_views = {views!r} is no number of views", "it is 1 or more, the plain view included")
    if adapts(method) == (type(method).observe is PromptMethod.observe):
        has, lacks = "the capability test_time", "observe(views)"
        if not adapts(method):
            has, lacks = lacks, has
        raise _wrong(entry, f"has {has}, but not {lacks}", "a method that adapts at test time has both")


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
        step = f"write {what} = ('...',)" if what == "searched" else f"write {what} = frozenset({{...}})"
        raise _wrong(entry, f"{what} = {given!r} is no set of names", step)
    for name in () if known is None else sorted(set(given) - set(known)):
        raise _wrong(entry, f"{what} holds an unknown name {name!r}", _allowed(name, sorted(known or ())))


def _allowed(given: object, allowed: Iterable[object]) -> str:
    """All that may stand there, and what was probably meant."""
    near = nearest(given, [one for one in allowed if isinstance(one, str)], limit=1) if isinstance(given, str) else []
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}allowed: {', '.join(map(str, allowed))}"


def _wrong(entry: Entry, what: str, step: str) -> PluginError:
    return PluginError(f"{entry.told}: {what}", hint=f"{step}; {entry.author}")
