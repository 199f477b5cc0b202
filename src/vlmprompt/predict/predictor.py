"""A method as it is used: any number of pictures, a batch at a time.

Shapes: B pictures, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlmprompt.data.pictures import pictures
from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.methods.classifier import BATCH, Classifier, parts
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score_names import SCORES
from vlmprompt.methods.scorer import Scorer, score_type
from vlmprompt.methods.scorer import scorer as score_of
from vlmprompt.methods.scores import basis
from vlmprompt.methods.streaming import blank
from vlmprompt.predict.decoding import read_ahead
from vlmprompt.predict.prediction import SHOWN, Prediction, joined
from vlmprompt.predict.rejection import Rejection
from vlmprompt.predict.thresholds import SetThreshold

# Told of a picture that is left out: what it is called, and why.
Complain = Callable[[str, InputError], None]


class Predictor:
    """Says of pictures what they show, by a method as it is now; the text of all classes is encoded once.

    A picture is what `Classifier` takes: a path, a PIL image, an array or tensor of 8-bit pixels, a record.

    Args:
        method: trained, in eval mode or frozen.
        temperature: see `Prediction`.
        rejection: tell unknown pictures by it; the method must be able to give its score, see `scoring`.
        scorer: gives the score; default: that of the rejection, which is then the core's own.
        set_threshold: make prediction sets by it.
        batch_size: pictures a step; no more are held at a time, and as many are read ahead.
        workers: threads that read pictures.
        upright: see `Classifier`.
        shown: see `Prediction`.
        seed: see `Classifier`.

    Raises:
        InputError: the text of a class is too long for the tower.
        UsageError: a batch would hold no picture, or no class would be shown.
        CapabilityError: the method cannot give the score.
    """

    def __init__(
        self,
        method: PromptMethod | FrozenMethod,
        *,
        temperature: float = 1.0,
        rejection: Rejection | None = None,
        scorer: Scorer | None = None,
        set_threshold: SetThreshold | None = None,
        batch_size: int = BATCH,
        workers: int = 0,
        upright: bool = True,
        shown: int = SHOWN,
        seed: int = 0,
    ) -> None:
        if shown < 1:
            raise UsageError(f"top = {shown} asks for no class", hint="at least 1")
        self._classifier = Classifier(method, batch_size=batch_size, upright=upright, seed=seed)
        if rejection is not None and scorer is None:
            scorer = score_of(rejection.score)
        self.scorer = None if scorer is None else scorer.of(self.frozen.method)
        if rejection is not None and self.scorer is not None:
            require_score_of(self.frozen, self.scorer)
        self.temperature, self.rejection, self.set_threshold = temperature, rejection, set_threshold
        self.workers, self.shown = workers, shown

    @property
    def frozen(self) -> FrozenMethod:
        """The method."""
        return self._classifier.frozen

    @property
    def upright(self) -> bool:
        """See `Classifier`."""
        return self._classifier.upright

    @property
    def class_names(self) -> tuple[str, ...]:
        """The label space."""
        return self.frozen.class_names

    def __call__(self, images: Any) -> Prediction:
        """What one picture or many show.

        Raises:
            InputError: one cannot be read; the message names it.
        """
        nothing = MethodOutput(torch.empty(0, len(self.class_names)), 1.0)
        return joined(list(self.batches(images)), self._said([], nothing))

    def batches(self, images: Any, complain: Complain | None = None) -> Iterator[Prediction]:
        """The same, a batch at a time, so that memory does not grow with the number of pictures.

        Args:
            images: a picture, or anything that gives some, read no further than is needed.
            complain: told of a picture that cannot be read, or of which the method says nothing finite; the others
                go on. None: an error ends it.

        Raises (while iterating):
            InputError: see `complain`.
        """
        for named, output in self.outputs(images, complain):
            said = self._said([name for name, _ in named], output)
            bad_B = _not_finite(said)
            for name, bad in zip(said.sources, bad_B, strict=True):
                if bad:
                    _complain(complain, name, InputError(f"what the method says of {name} is not finite"))
            if not all(bad_B):
                yield _without(said, bad_B) if any(bad_B) else said

    def outputs(
        self, images: Any, complain: Complain | None = None
    ) -> Iterator[tuple[list[tuple[str, Any]], MethodOutput]]:
        """All that the method says of each batch, with its pictures and what they are called; see `batches`."""
        frozen = self.frozen.stream()
        device = frozen.method.backbone.device
        read = self._readable(images, complain)
        for part in parts(read, self._classifier.step):
            images_B3HW = torch.stack([tensor for _, _, tensor in part]).to(device)
            yield [(name, picture) for name, picture, _ in part], frozen(images_B3HW)

    def _readable(self, images: Any, complain: Complain | None) -> Iterator[tuple[str, Any, Tensor]]:
        ahead = self._classifier.step
        # Random views are drawn from torch's global generator, which threads share.
        workers = 0 if self._classifier.sees_several else self.workers
        found = read_ahead(pictures(images), self._classifier.tensor, workers=workers, ahead=ahead)
        for number, (picture, tensor) in enumerate(found, 1):
            name = _name(picture, number)
            if isinstance(tensor, InputError):
                _complain(complain, name, tensor)
            else:
                yield name, picture, tensor

    def _said(self, names: list[str], output: MethodOutput) -> Prediction:
        logits_BK = output.logits.float().cpu()
        said = Prediction(self.class_names, logits_BK, tuple(names), self.temperature, self.rejection, shown=self.shown)
        if self.rejection is not None and self.scorer is not None:
            scores_B = self.scorer(output).float().cpu() if names else torch.empty(0)
            said = replace(said, scores_B=scores_B)
        if self.set_threshold is not None:
            said = replace(said, sets_BK=self.set_threshold.sets(said.probabilities_BK))
        return said

    def __repr__(self) -> str:
        return f"Predictor({self.frozen.method!r})"


def scoring(method: PromptMethod, score: str | None) -> PromptMethod:
    """The method with what a score reads of images: GL-MCM needs local features."""
    return method.with_local() if score is not None and "local" in score_type(score).needs else method


def require_score_of(frozen: FrozenMethod, scorer: Scorer) -> None:
    """Refuse a score that a method cannot give, asked of a black picture.

    Raises:
        CapabilityError: names the scores that it can give.
    """
    output = frozen.stream()(blank(frozen.method, 1))
    try:
        scorer.basis(output)
    except CapabilityError as error:
        able = ", ".join(name for name in SCORES if _gives(output, name))
        raise CapabilityError(
            f"score {scorer.name!r} cannot be had: {error.message}", hint=f"--score of {able}"
        ) from error


def _gives(output: MethodOutput, score: str) -> bool:
    try:
        basis(output, score)
    except CapabilityError:
        return False
    return True


def _name(picture: Any, number: int) -> str:
    """What a picture is called: by its path, or by its place among the others."""
    if isinstance(picture, Record):
        return picture.id
    if isinstance(picture, str) or hasattr(picture, "__fspath__"):
        return str(picture)
    return str(getattr(picture, "filename", "") or f"picture {number}")


def _complain(complain: Complain | None, name: str, error: InputError) -> None:
    if complain is None:
        raise error
    complain(name, error)


def _not_finite(said: Prediction) -> list[bool]:
    """Of which pictures a logit or the score is NaN or infinite."""
    finite_B = said.logits_BK.isfinite().all(dim=1)
    if said.scores_B is not None:
        finite_B &= said.scores_B.isfinite()
    return (~finite_B).tolist()


def _without(said: Prediction, bad_B: list[bool]) -> Prediction:
    """The prediction without some of its pictures."""
    kept = [i for i, bad in enumerate(bad_B) if not bad]
    return replace(
        said,
        logits_BK=said.logits_BK[kept],
        sources=tuple(said.sources[i] for i in kept),
        scores_B=None if said.scores_B is None else said.scores_B[kept],
        sets_BK=None if said.sets_BK is None else said.sets_BK[kept],
    )
