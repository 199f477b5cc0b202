"""Classification of a split: what was said of each image, and how far the probabilities can be trusted.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlmprompt.data.records import Dataset
from vlmprompt.evaluation import metrics
from vlmprompt.evaluation.contract import Measurement, MetricValue
from vlmprompt.evaluation.images import Predictions
from vlmprompt.methods.ranks import label_ranks
from vlmprompt.results.calibration import CALIBRATION_METRICS
from vlmprompt.results.details import Details

CALIBRATION = tuple(CALIBRATION_METRICS)
TOP1 = ("top1", *CALIBRATION)
ROWS = 4096  # images at a time: probabilities are float64


def top1_measurement(predictions: Predictions, dataset: Dataset, *, note: str = "") -> Measurement:
    """The metrics `TOP1` of the test split of a data set, and its details."""
    top1 = metrics.top1(predictions.logits_BK, predictions.labels_B)
    return measurement([MetricValue("top1", top1, len(predictions), note=note)], predictions, dataset, note=note)


def measurement(
    values: Sequence[MetricValue], predictions: Predictions, dataset: Dataset, *, note: str = ""
) -> Measurement:
    """Some numbers, then the metrics `CALIBRATION`, and details of the test split.

    Raises:
        InputError: there are no images, or a logit is not finite.
    """
    details = classified(predictions, dataset)
    numbers = calibration_of(details)
    n = len(predictions)
    calibration = [MetricValue(name, numbers[name], n, up, note) for name, up in CALIBRATION_METRICS.items()]
    return Measurement([*values, *calibration], details)


def calibration_of(details: Details) -> dict[str, float]:
    """The metrics `CALIBRATION` of what was said of each image."""
    return details.calibration() | {"ece_15": metrics.ece_of(details.confidence, details.correct, bins=15)}


def classified(predictions: Predictions, dataset: Dataset, *, split: str = "test") -> Details:
    """What was said of each image of a split; probabilities in float64.

    Args:
        predictions: of that split, over the classes of the data set.

    Raises:
        InputError: there are no images, or a logit is not finite.
    """
    logits_BK, labels_B = predictions.logits_BK, predictions.labels_B
    metrics.require_measurable(logits_BK, labels_B)
    chunks = zip(logits_BK.split(ROWS), labels_B.split(ROWS), strict=True)
    parts = [_said(logits, labels) for logits, labels in chunks]
    arrays = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    ids = tuple(record.id for record in dataset.split(split))
    return Details("classification", dataset.spec, dataset.class_names, ids=ids, **arrays)  # type: ignore[arg-type]


def _said(logits_BK: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
    """The arrays of `Details`; among equal logits the label goes first, as in every metric."""
    probability_BK = logits_BK.double().softmax(dim=1)
    prediction_B = torch.where(label_ranks(logits_BK, labels_B) == 0, labels_B, logits_BK.argmax(dim=1))
    rest_BK = logits_BK.scatter(1, prediction_B[:, None], -torch.inf)
    runner_up_B = torch.where(label_ranks(rest_BK, labels_B) == 0, labels_B, rest_BK.argmax(dim=1))
    runner_up_B[runner_up_B == prediction_B] = -1  # of one class only
    beside_B = _of(probability_BK, runner_up_B.clamp(min=0)).where(runner_up_B >= 0, 0.0)
    return {
        "label": labels_B,
        "prediction": prediction_B,
        "confidence": probability_BK.amax(dim=1),
        "true_probability": _of(probability_BK, labels_B),
        "square_sum": probability_BK.square().sum(dim=1),
        "runner_up": runner_up_B,
        "runner_up_probability": beside_B,
    }


def _of(values_BK: Tensor, places_B: Tensor) -> Tensor:
    return values_BK.gather(1, places_B[:, None])[:, 0]
