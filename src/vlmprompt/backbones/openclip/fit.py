"""Tensors into a model that open_clip has built; what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from torch import Tensor, nn

from vlmprompt.backbones.weights.file import Weights
from vlmprompt.backbones.weights.shapes import architectures_like
from vlmprompt.errors import InputError

_SCALARS = ("logit_scale", "logit_bias")
_SHOWN = 2  # of the tensors that do not fit


def fill(model: nn.Module, weights: Weights, architecture: str) -> None:
    """Give a model its weights, in fp32 whatever they were kept in; as open_clip does, position embeddings of another
    input size or text length are interpolated.

    Args:
        architecture: what the model is called, for errors.

    Raises:
        InputError: they are of another architecture; says of which, where the shapes tell.
    """
    expected = model.state_dict()
    try:
        tensors = _as_open_clip(model, dict(weights.tensors))
    except (AssertionError, RuntimeError, KeyError) as error:  # widths or grids that cannot be brought together
        raise _misfit(weights, architecture, ["its tensors cannot be brought to this architecture's"]) from error
    problems = _problems(expected, tensors)
    if problems:
        raise _misfit(weights, architecture, problems)
    _require_numbers(expected, tensors, weights)
    # The file's tensors become the model's: to copy them would take as long as to read them.
    model.load_state_dict(
        {name: tensors[name].to(own.dtype).contiguous() for name, own in expected.items()}, assign=True
    )


def architectures_of(weights: Weights) -> list[str]:
    """open_clip's architectures that a file may be of, by its shapes and its activation."""
    configs = {name: open_clip.get_model_config(name) or {} for name in open_clip.list_models()}
    found = architectures_like(weights.tensors, configs)
    if weights.quick_gelu is not None:
        found = [name for name in found if bool(configs[name].get("quick_gelu")) == weights.quick_gelu] or found
    return found


def _as_open_clip(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the names, shapes and optional parts of this very model."""
    tensors = convert_state_dict(model, tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in _SCALARS:
        wanted = getattr(model, name, None)
        if wanted is None:
            tensors.pop(name, None)  # a bias cancels among classes
        elif name in tensors and tensors[name].numel() == 1:
            tensors[name] = tensors[name].reshape(wanted.shape)
        elif name == "logit_bias":
            tensors[name] = torch.zeros_like(wanted)
    tensors.pop("text.transformer.embeddings.position_ids", None)
    resize_pos_embed(tensors, model)
    resize_text_pos_embed(tensors, model)
    return tensors


def _problems(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being a model's, in words."""
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} is {_by(tensors[name])} in place of {_by(own)}"
        for name, own in expected.items()
        if name in tensors and tensors[name].shape != own.shape
    ]
    parts = ((shapes, "of other shapes"), (missing, "missing"), (unknown, "that it does not have"))
    return [f"{len(names)} tensor(s) {what} ({_some(names)})" for names, what in parts if names]


def _require_numbers(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], weights: Weights) -> None:
    """Refuse tensors that make no numbers: quantised ones, whose scales lie elsewhere, and infinities.

    Raises:
        InputError: names the first.
    """
    for name, own in expected.items():
        found = tensors[name]
        if own.is_floating_point() and not found.is_floating_point():
            kept = str(found.dtype).removeprefix("torch.")
            cause = f"{name} is kept as {kept}, not as floating-point numbers (quantised?)"
        elif own.is_floating_point() and not _finite(found.to(own.dtype)):
            cause = f"{name} holds infinities or no numbers (NaN): a training that diverged, or a damaged file"
        else:
            continue
        raise InputError(f"{weights.path} ({weights.kind}) cannot be used: {cause}", hint="name another file")


def _finite(tensor: Tensor) -> bool:
    """Whether all are numbers: the extremes of a tensor that holds a NaN are NaN. Twice as fast as to ask each."""
    return tensor.numel() == 0 or bool(torch.stack(tensor.aminmax()).isfinite().all())


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:_SHOWN]) + ("; ..." if len(names) > _SHOWN else "")


def _misfit(weights: Weights, architecture: str, problems: Sequence[str]) -> InputError:
    if ":" in architecture:  # a folder or a repository, which describes the model
        return InputError(
            f"{weights.path} ({weights.kind}) is not the model that {architecture} describes: {', '.join(problems)}",
            hint="fetch the folder again, or name the architecture and the file: --backbone ARCHITECTURE/FILE",
        )
    like = [name for name in architectures_of(weights) if name != architecture]
    hint = "name the architecture that it was trained as ('vlmprompt backbones list --architectures' lists all)"
    if like:
        hint = f"its shapes are those of {' or '.join(like[:3])}: --backbone {like[0]}/{weights.path}"
    return InputError(
        f"{weights.path} ({weights.kind}) is not of architecture {architecture!r}: {', '.join(problems)}", hint=hint
    )
