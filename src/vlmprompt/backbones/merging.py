"""Deltas merged into a copy of the towers' weights, so that plain towers compute what a method computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vlmprompt.backbones.adapting import Place, adapted
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.deltas import Bias, Delta, LowRank, Norm, TowerDeltas
from vlmprompt.errors import CapabilityError


def merged_state(backbone: Backbone, text: TowerDeltas | None, image: TowerDeltas | None) -> dict[str, Tensor]:
    """The state of the backbone's model with deltas in it, on the CPU; the model stays as it is.

    Sums are made in float64 and rounded once.

    Raises:
        CapabilityError: a bottleneck, which no weight can hold, or a bias for a map that has none.
        InputError: a delta that does not fit the tower.
    """
    state = {name: tensor.detach().cpu() for name, tensor in backbone.model.state_dict().items()}
    names: dict[int, list[str]] = {}
    for name, parameter in backbone.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for told, tower, deltas in (("text", backbone.text.tower, text), ("image", backbone.vision, image)):
        if not deltas:
            continue
        owner: Any = tower if told == "text" else getattr(tower, "tower", None)
        adapted(owner.blocks, deltas)  # refuses what does not fit
        for block, parts in deltas.items():
            for part, delta in parts.items():
                place = owner.blocks[block].places[part]
                _merge(state, names, place, delta, f"the delta of part {part!r} in block {block} of the {told} tower")
    return state


def _merge(state: dict[str, Tensor], names: Mapping[int, list[str]], place: Place, delta: Delta, told: str) -> None:
    if isinstance(delta, LowRank):
        added = delta.scale * (delta.B.detach().double() @ delta.A.detach().double())
        _add(state, names, place.weight, place.rows, added, told)
    elif isinstance(delta, Bias):
        _add(state, names, place.bias, place.bias_rows, delta.bias, told)
    elif isinstance(delta, Norm):
        for own, more in ((place.weight, delta.weight), (place.bias, delta.bias)):
            if more is not None:
                _add(state, names, own, None, more, told)
    else:
        raise CapabilityError(f"{told} cannot be merged into weights: a bottleneck stands beside them")


def _add(
    state: dict[str, Tensor],
    names: Mapping[int, list[str]],
    own: Tensor | None,
    rows: slice | None,
    added: Tensor,
    told: str,
) -> None:
    """Add to rows of a tensor, under every name that it has."""
    if id(own) not in names:
        raise CapabilityError(f"{told} cannot be merged into weights: there is no parameter to hold it")
    for name in names[id(own)]:
        merged = state[name].double().clone()
        merged[rows or slice(None)] += added.detach().double().cpu()
        state[name] = merged.to(state[name].dtype)
