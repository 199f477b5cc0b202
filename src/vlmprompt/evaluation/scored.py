"""The OOD scores of a whole split, all in one pass.

Shapes: B images of the split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, VlmPromptError
from vlmprompt.evaluation.context import Context
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.scorer import Scorer, scorer


@dataclass(frozen=True)
class Scored:
    """What a method's scores say of a split.

    Attributes:
        values: score -> (B,), on the CPU; those that the method can give, finite.
        basis: score -> what it was computed on, in words.
        refused: score -> why the method cannot give it, what failed, or which of its values is not finite.
        images: B.
    """

    values: Mapping[str, Tensor]
    basis: Mapping[str, str]
    refused: Mapping[str, VlmPromptError]
    images: int

    def __len__(self) -> int:
        return self.images

    def of(self, score: str) -> Tensor:
        """(B,) of one score.

        Raises:
            CapabilityError: the method cannot give it.
            InputError: it is not finite for some image.
            PluginError: its own code failed.
        """
        if score in self.refused:
            raise self.refused[score]
        return self.values[score]


class Scorers:
    """The scores that are measured of a subject, each prepared for its method when it is first needed, once."""

    def __init__(self, context: Context) -> None:
        self.names = context.scores
        self._context = context
        self._found: dict[str, Scorer | VlmPromptError] = {}

    def ready(self) -> dict[str, Scorer | VlmPromptError]:
        """Each score for the subject's method, or why there is none.

        Raises:
            VlmPromptError: there is no method.
        """
        method = self._context.method()
        for name in self.names:
            if name not in self._found:
                try:
                    self._found[name] = scorer(name, self._context.score_options.get(name), method)
                except VlmPromptError as error:
                    self._found[name] = error
        return self._found

    def parts(self, name: str) -> Mapping[str, Any]:
        """What numbers of a score depend on beside all others; nothing of the core's own."""
        try:
            found = scorer(name, self._context.score_options.get(name)).parts()
        except VlmPromptError as error:  # which fails the score's cells, when they are measured
            return {"score": error.message}
        return {"score": found} if found else {}


def score_split(context: Context, dataset: Dataset, scorers: Scorers | None = None) -> Scored:
    """Every score of the test images of a data set, by the context's method.

    Args:
        scorers: those of the context, to prepare them once for several data sets.

    Raises:
        InputError: an image cannot be read, or there are none.
    """
    method = context.method()
    reader = method.with_local()
    added = "" if reader is method else " (value_block)"
    able: dict[str, Scorer] = {}
    refused: dict[str, VlmPromptError] = {}
    for name, found in (scorers or Scorers(context)).ready().items():
        if isinstance(found, Scorer):
            able[name] = found
        else:
            refused[name] = found
    words: dict[str, str] = {}

    def scores(output: MethodOutput) -> dict[str, Tensor]:
        given = {}
        for name in (name for name in able if name not in refused):
            try:
                given[name], words[name] = able[name](output), able[name].basis(output)
            except VlmPromptError as error:
                refused[name] = error
        return given

    values, _ = context.read(reader, dataset, "test", scores)
    values = {name: values_B for name, values_B in values.items() if name not in refused}
    for name, values_B in values.items():
        if problem := _not_finite(able[name], values_B, dataset):
            refused[name] = problem
    found_on = {name: words[name] + added * ("local" in words[name]) for name in able if name in words}
    return Scored(values, found_on, refused, len(dataset.split("test")))


def _not_finite(found: Scorer, values_B: Tensor, dataset: Dataset) -> InputError | None:
    bad = (~torch.isfinite(values_B)).nonzero().flatten().tolist()
    if not bad:
        return None
    first = dataset.split("test")[bad[0]].id
    hint = None if found.is_own else found.entry.author
    problem = f"{found.told} of {len(bad)} images of {dataset.name} is not finite, the first is {first}"
    return InputError(problem, hint=hint)
