"""A method as one callable: pictures in, classes out.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from vlmprompt.data.pictures import picture_tensor, picture_views, pictures
from vlmprompt.errors import UsageError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.passes import views_of

BATCH = 100  # images a step, as in evaluation
Thing = TypeVar("Thing")


@dataclass(frozen=True, repr=False)
class Classification:
    """What a classifier says of some pictures, in their order.

    Attributes:
        class_names: the label space.
        logits_BK: float32, on the CPU.
    """

    class_names: tuple[str, ...]
    logits_BK: Tensor

    def __len__(self) -> int:
        return len(self.logits_BK)

    @cached_property
    def probabilities_BK(self) -> Tensor:
        """Softmax of the logits; of few-shot classifiers often too sure (see `ece_15` of the suite accuracy)."""
        return self.logits_BK.softmax(dim=-1)

    @property
    def labels_B(self) -> Tensor:
        """The class with the largest logit of each picture, as its index."""
        return self.logits_BK.argmax(dim=-1)

    @property
    def names(self) -> list[str]:
        """The name of that class."""
        return [self.class_names[label] for label in self.labels_B.tolist()]

    def top(self, k: int = 5) -> list[dict[str, float]]:
        """For each picture its k likeliest classes with their probabilities, the likeliest first.

        Raises:
            UsageError: k is less than 1.
        """
        if k < 1:
            raise UsageError(f"top({k}) asks for no class", hint="at least 1")
        values_Bk, labels_Bk = self.probabilities_BK.topk(min(k, len(self.class_names)), dim=-1)
        rows = zip(labels_Bk.tolist(), values_Bk.tolist(), strict=True)
        return [{self.class_names[i]: p for i, p in zip(*row, strict=True)} for row in rows]

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:3]) + (", ..." if len(self) > 3 else "")
        return f"Classification({len(self)} pictures, {len(self.class_names)} classes: {shown})"


class Classifier:
    """Classifies pictures by a method as it is now; the text of all classes is encoded once.

    A picture is a path, a PIL image, an array (H,W,3) or tensor (3,H,W) of 8-bit pixels, a record of a data set, or
    a tensor of floats as `backbone.transform(train=False)` gives it.

    A method that adapts at test time sees the pictures of a call as a stream of its own, one by one in the order in
    which they are given, so that how they fall into batches changes nothing.

    Args:
        method: trained, or one that needs no training; or such a method frozen.
        batch_size: pictures a step; more are never held at a time.
        upright: see pictures as a viewer shows them, turned by their EXIF orientation and over white; else as they
            are stored.
        seed: of the random views of a picture, for a method that sees several.

    Raises:
        InputError: the text of a class is too long for the tower.
        UsageError: it is no method, or a batch would hold no picture.
    """

    def __init__(
        self, method: PromptMethod | FrozenMethod, *, batch_size: int = BATCH, upright: bool = True, seed: int = 0
    ) -> None:
        if not isinstance(method, PromptMethod | FrozenMethod):
            raise UsageError(
                f"a {type(method).__name__} is no method",
                hint="run.classifier() makes a classifier of a run, build_method(NAME, ...) makes a method",
            )
        if batch_size < 1:
            raise UsageError(f"batch_size = {batch_size}: a batch holds at least 1 picture")
        self.frozen = method if isinstance(method, FrozenMethod) else method.frozen()
        self.batch_size = batch_size
        self.upright = upright
        self._transform = self.frozen.method.backbone.transform(train=False)
        self._views = views_of(self.frozen.method, seed)
        # Pictures a step; of one that is seen several times, no more than make up a batch.
        self.step = batch_size if self._views is None else max(1, batch_size // self._views.count)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The label space."""
        return self.frozen.class_names

    @property
    def sees_several(self) -> bool:
        """Whether the method sees several views of each picture."""
        return self._views is not None

    def __call__(self, images: Any) -> Classification:
        """Classify one picture or many.

        Args:
            images: a picture, or anything that gives some: a list, a generator, a batch of pixels.

        Raises:
            InputError: one cannot be read; the message names it.
        """
        logits = [part.logits_BK for part in self.batches(images)]
        return self._said(torch.cat(logits) if logits else torch.empty(0, len(self.class_names)))

    def batches(self, images: Any) -> Iterator[Classification]:
        """The same, a batch at a time, so that memory does not grow with the number of pictures."""
        for output in self.outputs(images):
            yield self._said(output.logits.float().cpu())

    def outputs(self, images: Any) -> Iterator[MethodOutput]:
        """All that the method says of each batch, such as for `ood_scores`."""
        frozen = self.frozen.stream()
        backbone = frozen.method.backbone
        for part in parts(pictures(images), self.step):
            yield frozen(torch.stack([self.tensor(picture) for picture in part]).to(backbone.device))

    def tensor(self, picture: Any) -> Tensor:
        """A picture as the tower reads it, on the CPU: (3,H,W), or (V,3,H,W) for a method that sees V views of each.

        Raises:
            InputError: it cannot be read.
        """
        if self._views is not None:
            return picture_views(picture, self._views, upright=self.upright)
        sides = self.frozen.method.backbone.preprocess.sides
        return picture_tensor(picture, self._transform, sides, upright=self.upright)

    def _said(self, logits_BK: Tensor) -> Classification:
        return Classification(self.class_names, logits_BK)

    def __repr__(self) -> str:
        return f"Classifier({self.frozen.method!r})"


def parts(things: Iterator[Thing], size: int) -> Iterator[list[Thing]]:
    """Consecutive parts of an iterator, read no further than needed."""
    while part := list(islice(things, size)):
        yield part
