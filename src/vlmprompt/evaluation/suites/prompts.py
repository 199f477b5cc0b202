"""How alike the prompts of a method are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue
from vlmprompt.methods.streaming import require_fixed

METRIC = "cosine"


class PromptsSuite:
    """The mean cosine between the text features of two prompts of a class, over pairs and classes.

    Near 1, several prompts do the work of one. No image is read; of prompts that depend on the image, the part that
    does not is taken.
    """

    name = "prompts"
    version = 2

    def cells(self, context: Context) -> Sequence[Cell]:
        """One."""
        return [Cell("text", (METRIC,), partial(_values, context))]


def _values(context: Context) -> list[MetricValue]:
    method = context.method()
    require_fixed(method, "a comparison of prompts")
    with torch.no_grad():
        unit_PKd = method.encode_text().unit_PKd
    if len(unit_PKd) < 2:
        raise CapabilityError("this method has one prompt a class, so none to compare it with")
    return [MetricValue(METRIC, float(mean_cosine(unit_PKd)), 0, note=f"{len(unit_PKd)} prompts; no images")]


def mean_cosine(unit_PKd: Tensor) -> Tensor:
    """Of unit features, over all pairs of different prompts and all classes."""
    n_prompts, n_classes, _ = unit_PKd.shape
    sum_Kd = unit_PKd.double().sum(dim=0)
    return (sum_Kd.square().sum() / n_classes - n_prompts) / (n_prompts * (n_prompts - 1))
