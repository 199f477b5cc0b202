"""Which method a published checkpoint is of, as far as its tensors tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmprompt.errors import InputError, PluginError, UsageError
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.build import list_methods, method_type
from vlmprompt.methods.foreign import ForeignState
from vlmprompt.plugins import host


def foreign_state(method: str, content: Mapping[str, Any]) -> ForeignState:
    """What a method reads in a checkpoint.

    Raises:
        CapabilityError: the method reads no checkpoints of other codes.
        InputError: the checkpoint is none of its code; the hint names the methods that it may be of.
    """
    try:
        return _read(method, content)
    except InputError as error:
        fitting = fitting_methods(content)
        if error.hint or not fitting:
            raise
        raise type(error)(error.message, hint=f"such tensors are read by --method {' or '.join(fitting)}") from None


def recognise(content: Mapping[str, Any], where: object) -> str:
    """The only method whose code may have written a checkpoint.

    Args:
        where: the checkpoint, for messages.

    Raises:
        UsageError: several methods save the same tensors.
        InputError: no method is known to save these.
    """
    fitting = fitting_methods(content)
    if len(fitting) > 1:
        raise UsageError(
            f"checkpoint {where} may be of {', '.join(fitting)}, which save the same tensors",
            hint=f"say which, such as --method {fitting[0]}",
        )
    if not fitting:
        raise InputError(
            f"the tensors of checkpoint {where} are those of no method that is known here",
            hint="say with --method which one it is of, to see what does not fit",
        )
    return fitting[0]


def fitting_methods(content: Mapping[str, Any]) -> list[str]:
    """The methods whose published codes may have written this."""
    return [name for name in list_methods() if _fits(name, content)]


def _fits(name: str, content: Mapping[str, Any]) -> bool:
    try:
        _read(name, content)
    except (InputError, PluginError):
        return False
    return True


def _read(name: str, content: Mapping[str, Any]) -> ForeignState:
    cls = method_type(name)
    with blaming(host().methods.get(name)):
        return cls.foreign_state(content)
