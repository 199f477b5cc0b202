"""Hand-written texts, and their frozen features that trained ones are held to.

Shapes: K classes, T templates, d joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from torch import Tensor

from vlmprompt.api import TextEngine, at_least_float, unit


def teacher_features(engine: TextEngine, templates: str | Sequence[str], names: Sequence[str]) -> Tensor:
    """Frozen text features (K,d): the mean over templates of the raw features, then L2-normalised."""
    templates = [templates] if isinstance(templates, str) else templates
    written = [name.replace("_", " ") for name in names]
    # One call for all texts: many short ones would cost more in overhead than in arithmetic.
    texts = [template.replace("{}", name) for template in templates for name in written]
    raw = engine.encode_sentences(texts, of=[*names] * len(templates))
    return unit(at_least_float(raw).unflatten(0, (len(templates), len(names))).mean(dim=0))


def ensemble() -> tuple[str, ...]:
    """The first 60 of the 80 texts that CLIP's authors wrote for ImageNet, which PromptSRC's code takes."""
    text = resources.files("vlmprompt_baselines").joinpath("ensemble.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
