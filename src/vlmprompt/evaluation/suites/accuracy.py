"""Accuracy on the test split."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.data.records import Dataset
from vlmprompt.evaluation import metrics
from vlmprompt.evaluation.classified import CALIBRATION, measurement
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement, MetricValue, Reading
from vlmprompt.evaluation.images import Predictions

TOP_K = 5


class AccuracySuite:
    """Classification of the test split over the classes that the run was trained on.

    `top1` over all images, the field's number for every data set (CoOp, Zhou et al., IJCV 2022); `top5` with
    more than five classes; `mean_per_class`, which the CLIP paper reports for Pets, Caltech101, Flowers and
    Aircraft; and those of `results.calibration`, of which tables show `ece_15`, the calibration error in 15 bins
    (Guo et al., ICML 2017). The cell is "test", or
    "test-base" where only the base half of the classes was trained on.
    """

    name = "accuracy"
    version = 1

    def cells(self, context: Context) -> Sequence[Cell]:
        """One: the test split."""
        halved = context.trained is not context.dataset
        names = ("top1", *(["top5"] if _has_top5(context) else []), "mean_per_class", *CALIBRATION)
        name, reads = "test-base" if halved else "test", (Reading(context.trained),)
        return [Cell(name, names, lambda: _measure(context), reads=reads)]


def _has_top5(context: Context) -> bool:
    return len(context.trained.class_names) > TOP_K


def _measure(context: Context) -> Measurement:
    predictions = context.predict(context.method(), context.trained)
    return accuracy_measurement(predictions, context.trained, top5=_has_top5(context))


def accuracy_measurement(predictions: Predictions, dataset: Dataset, *, top5: bool) -> Measurement:
    """All metrics of this suite."""
    logits_BK, labels_B, n = predictions.logits_BK, predictions.labels_B, len(predictions)
    values = [MetricValue("top1", metrics.top1(logits_BK, labels_B), n)]
    if top5:
        values.append(MetricValue("top5", metrics.top_k(logits_BK, labels_B, TOP_K), n))
    values.append(MetricValue("mean_per_class", metrics.mean_per_class(logits_BK, labels_B), n))
    return measurement(values, predictions, dataset)
