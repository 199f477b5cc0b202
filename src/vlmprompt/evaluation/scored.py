"""The OOD scores of a whole split, all in one pass.

Shapes: B images of the split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.data.records import Dataset
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.evaluation.context import Context
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score_names import SCORES
from vlmprompt.methods.scores import basis, ood_scores


@dataclass(frozen=True)
class Scored:
    """What a method's scores say of a split.

    Attributes:
        values: score -> (B,), on the CPU; those that the method can give, finite.
        basis: score -> what it was computed on, in words.
        refused: score -> why the method cannot give it, or which of its values is not finite.
        images: B.
    """

    values: Mapping[str, Tensor]
    basis: Mapping[str, str]
    refused: Mapping[str, CapabilityError | InputError]
    images: int

    def __len__(self) -> int:
        return self.images

    def of(self, score: str) -> Tensor:
        """(B,) of one score.

        Raises:
            CapabilityError: the method cannot give it.
            InputError: it is not finite for some image.
        """
        if score in self.refused:
            raise self.refused[score]
        return self.values[score]


def score_split(context: Context, dataset: Dataset) -> Scored:
    """Every score of the test images of a data set, by the context's method.

    Raises:
        InputError: an image cannot be read, or there are none.
    """
    method = context.method()
    reader = method.with_local()
    added = "" if reader is method else " (value_block)"
    found: dict[str, str] = {}
    refused: dict[str, CapabilityError | InputError] = {}

    def scores(output: MethodOutput) -> dict[str, Tensor]:
        given = {}
        for score in SCORES:
            try:
                given[score], found[score] = ood_scores(output, score), basis(output, score)
            except CapabilityError as error:
                refused[score] = error
        return given

    values, _ = context.read(reader, dataset, "test", scores)
    for score, values_B in values.items():
        if problem := _not_finite(score, values_B, dataset):
            refused[score] = problem
    words = {score: text + added * ("local" in text) for score, text in found.items()}
    return Scored(values, words, refused, len(dataset.split("test")))


def _not_finite(score: str, values_B: Tensor, dataset: Dataset) -> InputError | None:
    bad = (~torch.isfinite(values_B)).nonzero().flatten().tolist()
    if not bad:
        return None
    first = dataset.split("test")[bad[0]].id
    return InputError(f"score {score} of {len(bad)} images of {dataset.name} is not finite, the first is {first}")
