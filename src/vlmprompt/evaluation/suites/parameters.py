"""How many numbers a method trains, and what share of CLIP's they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue

METRICS = ("parameters", "share")


class ParametersSuite:
    """Trained parameters, and their share of the towers' (Table 5 of Bloom, "Params" and "Params %CLIP").

    The towers are counted without the table of token embeddings, as MaPLe's and Bloom's papers do: their 3.55 million
    are 2.85 % of 124.3, where a whole ViT-B/16 has 149.6. No image is read. Of methods that are fitted at once
    (`closed_form`) nothing is counted: what they learn is no parameter of an optimiser, and not nothing either.
    """

    name = "parameters"
    version = 2

    def cells(self, context: Context) -> Sequence[Cell]:
        """One."""
        return [Cell("trained", METRICS, partial(_values, context))]


def _values(context: Context) -> list[MetricValue]:
    method = context.method()
    trained = sum(parameter.numel() for parameter in method.trainable_parameters())
    if "closed_form" in method.capabilities and not trained:
        raise CapabilityError("the method is fitted at once; no parameters are trained")
    towers = towers_parameters(method.backbone.model)
    note = f"{trained:,} of {towers:,}; no images"
    values = zip(METRICS, (float(trained), trained / towers), strict=True)
    return [MetricValue(name, value, 0, higher_is_better=False, note=note) for name, value in values]


def towers_parameters(model: nn.Module) -> int:
    """Numbers of both towers but for the largest table of embeddings, that of the tokens."""
    tables = [module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding)]
    return sum(parameter.numel() for parameter in model.parameters()) - max(tables, default=0)
