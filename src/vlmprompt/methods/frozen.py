"""A method that learns no more: its text encoded once, for any number of images.

Shapes: B images, K classes, P prompts, d joint width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.errors import UsageError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.streaming import adapts, observed, same_generator, started

if TYPE_CHECKING:
    from vlmprompt.data.records import Dataset


@dataclass(frozen=True)
class FrozenMethod:
    """A method as it was when this was made; calls give what the method in eval mode would give, without a graph.

    What the method learns afterwards does not reach it. It may be made and called in any mode of autograd: what it
    keeps can be used in training all the same, which tensors of `torch.inference_mode` could not.

    Of a method that adapts at test time, the images of all calls are one stream, in the order in which they are given;
    `stream` begins another.

    Attributes:
        method: a copy with learned state of its own; one that adapts has seen the images of its stream.
        text: features of all classes (P,K,d); None where the text depends on the image (CoCoOp) and is encoded
            for each, where there is none (linear probe), or where the method adapts.
        unseen: of a method that adapts, the copy that streams begin with; else None.
    """

    method: PromptMethod
    text: TextFeatures | None
    unseen: PromptMethod | None = None

    @classmethod
    def of(cls, method: PromptMethod, measured_on: Dataset | None = None) -> FrozenMethod:
        """Freeze a method.

        Args:
            measured_on: the data set that it is about to be measured on, of which it is told.

        Raises:
            InputError: the text of a class is too long for the tower.
        """
        with _without_graph():
            own = method.copied(deep=True).eval()
            if measured_on is not None or adapts(own):
                own.generator = same_generator(method)  # what is drawn from here on, training must not feel
            with method.blamed():
                if measured_on is not None:
                    own.start_evaluation(measured_on)
                if not adapts(own):
                    return cls(own, own.frozen_text())
                own.start_stream()  # here already, so that what no stream changes is computed once for all
            return cls(started(own), None, own)

    def stream(self) -> FrozenMethod:
        """The method at the start of a stream of its own; itself, where it does not adapt."""
        if self.unseen is None:
            return self
        with _without_graph():
            return FrozenMethod(started(self.unseen), None, self.unseen)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The label space."""
        return self.method.class_names

    def __call__(self, images: Tensor | ImageFeatures, **method_options: Any) -> MethodOutput:
        """Classify images; see `PromptMethod.forward`, and `streaming.observed` of a method that adapts.

        Raises:
            UsageError: options for a method that adapts, which takes none.
        """
        with _without_graph():
            if isinstance(images, Tensor) and images.is_inference():
                images = images.clone()  # a method may ask for gradients of its images (activation maps)
            if self.unseen is not None:
                if method_options:
                    raise UsageError(f"{self.method.told} adapts at test time and takes no {', '.join(method_options)}")
                return observed(self.method, images)
            return self.method(images, text=self.text, **method_options)

    def __repr__(self) -> str:
        text = "no text at hand: each image has its own, or none" if self.text is None else "text encoded"
        text = text if self.unseen is None else "adapts to the images that it is given"
        return f"FrozenMethod({self.method!r}, {text})"


@contextmanager
def _without_graph() -> Iterator[None]:
    """No graph, and no tensor that could never be part of one, whatever the caller's mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield
