"""What a method gives is looked at where it is taken: a wrong shape would fail later, in the name of something else.

Shapes: B images, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from vlmprompt.errors import PluginError
from vlmprompt.methods.output import Losses, MethodOutput


class Told(Protocol):
    """Who gives something; put into words where it is wrong, and not in every step."""

    @property
    def told(self) -> str:
        """In the words of errors."""


def require_output(who: Told, output: Any, n_classes: int, n_images: int) -> MethodOutput:
    """What `forward` of a method gave.

    Raises:
        PluginError: it is no `MethodOutput`, or its logits are not (B,K).
    """
    if not isinstance(output, MethodOutput):
        raise _wrong(
            f"{who.told} gives a {type(output).__name__} for images", "classify and forward return a MethodOutput"
        )
    logits: Any = output.logits
    if not isinstance(logits, Tensor):
        raise _wrong(f"{who.told} gives logits that are a {type(logits).__name__}", "they are a tensor (B,K)")
    if tuple(logits.shape) != (n_images, n_classes):
        raise _wrong(
            f"{who.told} gives logits of shape {tuple(logits.shape)} for {n_images} images and {n_classes} classes",
            f"they must be ({n_images}, {n_classes}), a row for each image and a column for each class",
        )
    return output


def require_losses(who: Told, losses: Any) -> Losses:
    """What `loss` of a method gave.

    Raises:
        PluginError: it is no `Losses`, or one of them is no scalar.
    """
    if not isinstance(losses, Losses):
        raise _wrong(f"{who.told} gives a {type(losses).__name__} as its loss", "loss returns Losses(total, parts)")
    for name, value in (("total", losses.total), *losses.parts.items(), *losses.compared.items()):
        if not isinstance(value, Tensor) or value.ndim:
            found = f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
            raise _wrong(
                f"{who.told} gives a loss whose {name!r} {found}", "each is a scalar tensor, a mean over images"
            )
    return losses


def require_record(who: str, hook: str, record: Any) -> dict[str, Any]:
    """What a hook gave to be kept in run.json.

    Args:
        hook: its name.

    Raises:
        PluginError: it is no mapping by name, or holds what JSON has no form for.
    """
    if not isinstance(record, Mapping) or not all(isinstance(name, str) for name in record):
        raise _wrong(
            f"{who} gives a {type(record).__name__} as what {hook} found", f"{hook} returns values by name, or {{}}"
        )
    for name, value in record.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise _wrong(
                f"{who} gives a {type(value).__name__} as {name!r} of what {hook} found, which JSON cannot hold",
                "give numbers, texts and lists: value.item(), tensor.tolist()",
            ) from error
    return dict(record)


def require_chosen(who: str, names: Sequence[str], found: Any) -> dict[str, Any]:
    """What `search_on_val` gave.

    Raises:
        PluginError: see `require_record`; or it lacks one of the names.
    """
    record = require_record(who, "search_on_val", found)
    for name in names:
        if name not in record:
            raise _wrong(
                f"{who} searches {name!r}, but search_on_val gives {', '.join(map(repr, record)) or 'nothing'}",
                "it returns the chosen value of each name in searched",
            )
    return record


def _wrong(what: str, step: str) -> PluginError:
    return PluginError(what, hint=f"{step}; tell the author of the method")
