"""Accuracy on the validation split, by which settings are chosen."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.data.contents import files_digest
from vlmprompt.evaluation import metrics
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue, Reading, impossible

METRICS = ("top1", "mean_per_class")


class ValidationSuite:
    """Classification of the whole val split over the classes that the run was trained on.

    For a search of settings, which must not see the test split. A method that chooses something on validation images
    itself (Tip-Adapter's scales, LP++'s start, a kept best state) has seen some of these: its number flatters it.
    """

    name = "validation"
    version = 1

    def cells(self, context: Context) -> Sequence[Cell]:
        """One: the val split."""
        records = context.dataset.splits.get("val", ())
        if not records:
            return [impossible("val", METRICS, f"data set {context.dataset.spec!r} has no val images")]
        files = files_digest(records, contents=context.dataset.by_contents)
        reads = (Reading(context.trained, "val"),)
        return [Cell("val", METRICS, lambda: _measure(context), {"val files": files}, reads=reads)]


def _measure(context: Context) -> list[MetricValue]:
    predictions = context.predict(context.method(), context.trained, "val")
    logits_BK, labels_B = predictions.logits_BK, predictions.labels_B
    measured = (metrics.top1(logits_BK, labels_B), metrics.mean_per_class(logits_BK, labels_B))
    return [MetricValue(name, value, len(predictions)) for name, value in zip(METRICS, measured, strict=True)]
