"""How well a score tells in-distribution (ID) images from others (OOD), in the conventions of both literatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlmprompt.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Floats = np.ndarray[Any, np.dtype[np.float64]]

RECALL = 0.95
# Metric -> whether higher is better.
OOD_METRICS: Mapping[str, bool] = {
    "fpr95_id_pos": False,
    "auroc": True,
    "fpr95_ood_pos": False,
    "aupr_in": True,
    "aupr_out": True,
    "aupr_in_trapezoid": True,
    "aupr_out_trapezoid": True,
}


def ood_metrics(
    id_scores: Tensor | Floats | Sequence[float], ood_scores: Tensor | Floats | Sequence[float]
) -> dict[str, float]:
    """All metrics of one score, as fractions in [0, 1].

    Args:
        id_scores, ood_scores: one number an image, higher = more in-distribution.

    Returns:
        - `fpr95_id_pos`: ID is positive, the share of OOD accepted at the threshold whose ID recall is nearest
          to 0.95; of equally near ones the lowest (MCM, GL-MCM, LoCoOp, GalLoP code)
        - `fpr95_ood_pos`: OOD is positive, the share of ID rejected where OOD recall first reaches 0.95
          (OpenOOD v1.5, but for equal scores: that code thins out the curve first, which can skip the point)
        - `auroc`: the same in both
        - `aupr_in`, `aupr_out`: average precision with ID or OOD as positives (MCM's line)
        - `aupr_in_trapezoid`, `aupr_out_trapezoid`: trapezoidal area below the same curves (OpenOOD)

    Raises:
        InputError: one side is empty, or a score is not finite.
    """
    import numpy as np

    id_n, ood_n = _array(id_scores, "in-distribution"), _array(ood_scores, "OOD")
    values = np.concatenate([id_n, ood_n])
    is_id = np.concatenate([np.ones(len(id_n), dtype=bool), np.zeros(len(ood_n), dtype=bool)])
    return _id_positive(is_id, values) | _ood_positive(~is_id, -values)


def _id_positive(is_id: Any, values: Floats) -> dict[str, float]:
    import numpy as np
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    # Thresholds from high to low, one a distinct value. The published code drops those below the first that
    # keeps all of ID, walks from there upwards and takes the first minimum.
    fpr, tpr, _ = roc_curve(is_id, values, drop_intermediate=False)
    upwards = slice(int(np.searchsorted(tpr, 1.0)), None, -1)
    nearest = int(np.argmin(np.abs(tpr[upwards] - RECALL)))
    return {
        "fpr95_id_pos": float(fpr[upwards][nearest]),
        "auroc": float(roc_auc_score(is_id, values)),
        "aupr_in": float(average_precision_score(is_id, values)),
        "aupr_in_trapezoid": _trapezoid(is_id, values),
    }


def _ood_positive(is_ood: Any, values: Floats) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_curve

    fpr, tpr, _ = roc_curve(is_ood, values, drop_intermediate=False)
    return {
        "fpr95_ood_pos": float(fpr[(tpr >= RECALL).argmax()]),
        "aupr_out": float(average_precision_score(is_ood, values)),
        "aupr_out_trapezoid": _trapezoid(is_ood, values),
    }


def _trapezoid(positive: Any, values: Floats) -> float:
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, values)
    return float(auc(recall, precision))


def _array(scores: Tensor | Floats | Sequence[float], side: str) -> Floats:
    """On the CPU, one-dimensional and finite; distinct values stay distinct."""
    import torch

    values = torch.as_tensor(scores).detach().cpu().double().flatten()
    if not len(values):
        raise InputError(f"there are no {side} scores to measure on")
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise InputError(f"{bad} of {len(values)} {side} scores are not finite, so metrics would mean nothing")
    return values.numpy()
