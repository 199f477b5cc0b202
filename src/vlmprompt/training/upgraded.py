"""Runs of an older version of a method's package, read as the method of today says (see `PromptMethod.upgrade`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from vlmprompt.config.models import RunConfig
from vlmprompt.distributions import code_version
from vlmprompt.errors import InputError, PluginError, VlmPromptError
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.build import method_type
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.hooks import Hooks
from vlmprompt.plugins import host
from vlmprompt.registry import Entry
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.made_by import fitting, package_of
from vlmprompt.training.run_info import RunInfo


def upgraded_config(info: RunInfo, file: Path) -> RunConfig:
    """The configuration of a run, its options as its method takes them now; as it is where the method is not there.

    Args:
        file: the run's checkpoint, if there is one yet.
    """
    if not _has_upgrade(info.config.method):
        return info.config
    try:
        tensors = Checkpoint.load(file).state
    except InputError:  # whoever needs it will say so
        tensors = {}
    return with_options(info.config, tensors, info.versions)


def with_options(config: RunConfig, tensors: Mapping[str, Tensor], versions: Mapping[str, str]) -> RunConfig:
    """A configuration with its options as its method takes them now."""
    if not _has_upgrade(config.method):
        return config
    return config.model_copy(update={"options": _upgrade(config, tensors, versions)[0]})


def upgraded(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint with its tensors as its method takes them now; its header stays what it was.

    Of the optimiser there is only the state of tensors that are the same, under whatever name.
    """
    config, versions = checkpoint.header.config, checkpoint.header.versions
    if not _has_upgrade(config.method):
        return checkpoint
    state = _upgrade(config, checkpoint.state, versions)[1]
    best = _upgrade(config, checkpoint.best, versions)[1] if checkpoint.best else {}
    names = _renamed(checkpoint.state, state)
    slots = {}
    for key, tensor in checkpoint.optimizer.items():
        name, _, slot = key.rpartition("/")
        if name in names:
            slots[f"{names[name]}/{slot}"] = tensor
    return replace(checkpoint, state=state, best=best, optimizer=slots)


def require_whole_optimizer(before: Checkpoint, after: Checkpoint) -> None:
    """Refuse to go on with a run where an upgrade has changed a tensor that the optimiser has a state of.

    Raises:
        InputError: names the versions.
    """
    if len(after.optimizer) < len(before.optimizer):
        package, version = package_of(before.header.versions)
        raise InputError(
            f"this run cannot be resumed: its method now has other tensors than those that its optimiser is amid "
            f"(made with {package} {version}; installed is {code_version(package)})",
            hint="finish it with the older version, or start over with --force",
        )


def load_state(method: PromptMethod, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's trained state and the state of the random generator into its method.

    Raises:
        InputError: it does not fit, which names the version that made it and the one that is installed; or a teacher
            has other weights.
    """
    with fitting(checkpoint.header.versions):
        method.load_trainable_state(checkpoint.state)
    method.set_rng_state(checkpoint.rng["method"])
    method.teachers.expect(checkpoint.header.digests)


def _has_upgrade(method: str) -> bool:
    try:
        found: Any = method_type(method).upgrade
    except VlmPromptError:  # it is not installed, or broken: whoever builds it says so
        return False
    return found.__func__ is not Hooks.upgrade.__func__  # type: ignore[attr-defined]


def _upgrade(
    config: RunConfig, tensors: Mapping[str, Tensor], versions: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the hook makes of a run; said where it changes anything.

    Raises:
        PluginError: it fails, or gives something else than options and tensors by name.
    """
    entry = host().methods.get(config.method)
    version = versions.get(entry.distribution)
    with blaming(entry):
        given: Any = method_type(config.method).upgrade(dict(config.options), dict(tensors), version)
    options, new = _required(entry, given)
    changes = [*_option_changes(config.options, options), *_tensor_changes(tensors, new)]
    if changes:
        package, today = entry.distribution, code_version(entry.distribution)
        _say(f"a run made with {package} {version or 'of an unknown version'} is read by {today}: {'; '.join(changes)}")
    return options, new


def _required(entry: Entry, given: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, Mapping) for part in given):
        options, tensors = given
        if all(isinstance(name, str) for name in [*options, *tensors]) and all(
            isinstance(tensor, Tensor) for tensor in tensors.values()
        ):
            return dict(options), dict(tensors)
    raise PluginError(
        f"{entry.told}: upgrade gives something else than options and tensors by name",
        hint=f"return options, tensors; {entry.author}",
    )


def _renamed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, str]:
    """Old name -> new name of each tensor that is still the same."""
    new = {id(tensor): name for name, tensor in after.items()}
    return {name: new[id(tensor)] for name, tensor in before.items() if id(tensor) in new}


def _option_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() - after.keys()):
        yield f"option {name} = {before[name]!r} is no more"
    for name, value in after.items():
        if name not in before:
            yield f"option {name} = {value!r} is new"
        elif before[name] != value:
            yield f"option {name} is {value!r}, and was {before[name]!r}"


def _tensor_changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Iterator[str]:
    names = _renamed(before, after)
    for name in before:
        if name not in names:
            yield f"tensor {name} is {'changed' if name in after else 'no more'}"
        elif names[name] != name:
            yield f"tensor {name} is now {names[name]}"
    for name in after:
        if name not in before and name not in names.values():
            yield f"tensor {name} is new"


@cache
def _say(text: str) -> None:
    """Once a process."""
    warnings.warn(text, stacklevel=2)
