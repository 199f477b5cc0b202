"""Weights of classes in the loss, for training images of which some classes have few.

Shapes: n images, K classes, B images of a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from vlmprompt.data.names import read_as
from vlmprompt.errors import UsageError, did_you_mean
from vlmprompt.methods.contract import PromptMethod

ClassWeights = Literal["balanced"] | Mapping[str, float] | None


def class_weights(asked: ClassWeights, class_names: Sequence[str], labels: Sequence[int]) -> Tensor | None:
    """The weight of an image by its class (K,), of mean 1 over the training images; None where all weigh the same.

    "balanced" is n / (C * n_k), with n_k of the n images in class k and C classes that have images (scikit-learn's
    `compute_class_weight`). A table names classes; those that it leaves out have 1 before the scaling.

    Args:
        labels: of the training images.

    Raises:
        UsageError: the table names a class that is not trained on, or one twice.
    """
    if asked is None:
        return None
    images_K = torch.bincount(torch.tensor(labels), minlength=len(class_names)).double()
    raw_K = images_K.clamp(min=1).reciprocal() if asked == "balanced" else _listed(asked, class_names)
    weights_K = raw_K * len(labels) / (raw_K * images_K).sum()
    return weights_K.float()


def is_balanced(labels: Sequence[int]) -> bool:
    """Whether all classes that have training images have equally many."""
    images_K = torch.bincount(torch.tensor(labels))
    return bool((images_K[images_K > 0] == images_K.max()).all())


def takes_weights(method: PromptMethod) -> bool:
    """Whether the method's loss has a parameter `weights`, as `PromptMethod.loss` has."""
    parameters = inspect.signature(method.loss).parameters
    return "weights" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _listed(table: Literal["balanced"] | Mapping[str, float], class_names: Sequence[str]) -> Tensor:
    """(K,) as a table says, 1 for what it leaves out."""
    assert not isinstance(table, str)
    read_K = [read_as(name) for name in class_names]
    weights_K = torch.ones(len(class_names), dtype=torch.float64)
    named: dict[tuple[str, ...], str] = {}
    for name, weight in table.items():
        read = read_as(name)
        if read not in read_K:
            hint = did_you_mean(name, class_names)
            raise UsageError(f"class_weights names {name!r}, which is none of the classes trained on", hint=hint)
        if read in named:
            raise UsageError(f"class_weights names one class twice: {named[read]!r} and {name!r}")
        named[read] = name
        weights_K[torch.tensor([own == read for own in read_K])] = weight
    return weights_K
