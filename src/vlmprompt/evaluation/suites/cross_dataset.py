"""Transfer to other data sets."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.data.records import Dataset
from vlmprompt.evaluation import metrics
from vlmprompt.evaluation.companions import companion_cells
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue


class CrossDatasetSuite:
    """Trained on one data set, tested on others with all their classes (CoCoOp, Zhou et al., CVPR 2022).

    One cell for each target, and "mean", the plain average over them. The learned prompts meet the target's
    class names; nothing else of the target is seen. A method that learned its classes cannot be transferred.
    The targets are those that the data set names (`--target` names others).
    """

    name = "cross-dataset"
    version = 1

    def cells(self, context: Context) -> Sequence[Cell]:
        """Each target, and their mean."""

        def target(dataset: Dataset) -> MetricValue:
            return on_target(context, dataset)

        return companion_cells(context, "targets", "--target", "top1", target, prepare=context.described)


def on_target(context: Context, target: Dataset) -> MetricValue:
    """Accuracy on the target's test split, over the target's classes.

    Raises:
        CapabilityError: the method cannot serve classes that it was not trained on.
    """
    predictions = context.predict(context.method_over(target), target)
    return MetricValue("top1", metrics.top1(predictions.logits_BK, predictions.labels_B), len(predictions))
