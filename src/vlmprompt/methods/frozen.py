"""A method that learns no more: its text encoded once, for any number of images.

Shapes: B images, K classes, P prompts, d joint width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput


@dataclass(frozen=True)
class FrozenMethod:
    """A method as it was when this was made; calls give what the method in eval mode would give, without a graph.

    What the method learns afterwards does not reach it. It may be made and called in any mode of autograd: what it
    keeps can be used in training all the same, which tensors of `torch.inference_mode` could not.

    Attributes:
        method: a copy with learned state of its own.
        text: features of all classes (P,K,d); None where the text depends on the image (CoCoOp) and is encoded
            for each, or where there is none (linear probe).
    """

    method: PromptMethod
    text: TextFeatures | None

    @classmethod
    def of(cls, method: PromptMethod) -> FrozenMethod:
        """Freeze a method.

        Raises:
            InputError: the text of a class is too long for the tower.
        """
        with _without_graph():
            own = method.copied(deep=True).eval()
            with method.blamed():
                return cls(own, own.frozen_text())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The label space."""
        return self.method.class_names

    def __call__(self, images: Tensor | ImageFeatures, **method_options: Any) -> MethodOutput:
        """Classify images; see `PromptMethod.forward`."""
        with _without_graph():
            if isinstance(images, Tensor) and images.is_inference():
                images = images.clone()  # a method may ask for gradients of its images (activation maps)
            return self.method(images, text=self.text, **method_options)

    def __repr__(self) -> str:
        text = "no text at hand: each image has its own, or none" if self.text is None else "text encoded"
        return f"FrozenMethod({self.method!r}, {text})"


@contextmanager
def _without_graph() -> Iterator[None]:
    """No graph, and no tensor that could never be part of one, whatever the caller's mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield
