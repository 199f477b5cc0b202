"""Transfer to other data sets."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.data.records import Dataset
from vlmprompt.evaluation.classified import TOP1, top1_measurement
from vlmprompt.evaluation.companions import companion_cells
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement


class CrossDatasetSuite:
    """Trained on one data set, tested on others with all their classes (CoCoOp, Zhou et al., CVPR 2022).

    One cell for each target, and "mean", the plain average over them. The learned prompts meet the target's
    class names; nothing else of the target is seen. A method that learned its classes cannot be transferred.
    The targets are those that the data set names (`--target` names others).
    """

    name = "cross-dataset"
    version = 1
    companions = ("targets",)

    def cells(self, context: Context) -> Sequence[Cell]:
        """Each target, and their mean."""

        def target(dataset: Dataset) -> Measurement:
            return on_target(context, dataset)

        return companion_cells(context, "targets", "--target", TOP1, target, prepare=context.described)


def on_target(context: Context, target: Dataset) -> Measurement:
    """Accuracy on the target's test split, over the target's classes.

    Raises:
        CapabilityError: the method cannot serve classes that it was not trained on.
    """
    return top1_measurement(context.predict(context.method_over(target), target), target)
