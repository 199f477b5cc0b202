"""Parameters that learn at another rate, or decay otherwise, than a method's others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprompt.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.methods.contract import PromptMethod


@dataclass(frozen=True)
class ParameterGroup:
    """How some parameters are optimised otherwise.

    Attributes:
        lr: factor on the learning rate of every step, warm-up included.
        weight_decay: in place of `train.weight_decay`; None: that one.
    """

    lr: float = 1.0
    weight_decay: float | None = None

    @property
    def words(self) -> str:
        """For people."""
        decay = "" if self.weight_decay is None else f", weight decay {self.weight_decay:g}"
        return f"{self.lr:g} times the rate{decay}"


USUAL = ParameterGroup()


def groups_of(method: PromptMethod) -> dict[str, ParameterGroup]:
    """The group of each trainable parameter, by the parameter's name, in the order of the parameters.

    A name in `parameter_groups` stands for the parameter of that name and, as of a module, for all below it: "adapter"
    for "adapter.weight" and "adapter.bias". Of several that fit the longest counts.

    Raises:
        PluginError: a name fits no trainable parameter, or its group is none.
    """
    with method.blamed():
        given: Any = method.parameter_groups()
    if not isinstance(given, Mapping):
        raise _wrong(method, f"gives a {type(given).__name__}", "return ParameterGroup(...) by name, or {}")
    names = [name for name, parameter in method.named_parameters() if parameter.requires_grad]
    for name, group in given.items():
        _require(method, name, group)
        if not any(_stands_for(name, own) for own in names):
            step = f"{did_you_mean(name, names)}trainable parameters: {', '.join(names) or 'none'}"
            raise _wrong(method, f"names {name!r}, which is no trainable parameter", step)
    return {own: _group(own, given) for own in names}


def _group(own: str, given: Mapping[str, ParameterGroup]) -> ParameterGroup:
    fitting = [name for name in given if _stands_for(name, own)]
    return given[max(fitting, key=len)] if fitting else USUAL


def _stands_for(name: str, own: str) -> bool:
    return own == name or own.startswith(f"{name}.")


def _require(method: PromptMethod, name: Any, group: Any) -> None:
    if not isinstance(name, str) or not isinstance(group, ParameterGroup):
        raise _wrong(method, f"gives a {type(group).__name__} for {name!r}", "give a ParameterGroup for each name")
    decay = group.weight_decay
    if not (_is_number(group.lr) and group.lr > 0):
        step = "a factor greater than 0; what is not to learn has requires_grad = False"
        raise _wrong(method, f"gives lr = {group.lr!r} for {name!r}", step)
    if decay is not None and not (_is_number(decay) and decay >= 0):
        raise _wrong(method, f"gives weight_decay = {decay!r} for {name!r}", "a number from 0 on, or None")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(method: PromptMethod, what: str, step: str) -> PluginError:
    return PluginError(f"{method.told}: parameter_groups {what}", hint=f"{step}; tell the author of the method")
