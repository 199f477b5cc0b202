"""A score at work: its options read, its resources prepared for a method, what it gives looked at.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.outliving import outliving
from vlmprompt.digests import digest_of
from vlmprompt.distributions import code_version
from vlmprompt.errors import PluginError, UsageError
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score import NEEDS, Score
from vlmprompt.methods.score_config import score_config
from vlmprompt.methods.score_names import score_entry
from vlmprompt.plugins import CORE
from vlmprompt.registry import Entry

_DIGITS = 8  # of a digest in a label


@dataclass(frozen=True)
class Scorer:
    """A score for a method's outputs: `scorer(output)` gives (B,), higher = more in-distribution.

    Attributes:
        entry: how it is registered.
        score: made with its options.
        prepared: what it needs of the method and its classes; None before `of`.
    """

    entry: Entry
    score: Score
    prepared: Any = None

    @property
    def name(self) -> str:
        """As users write it."""
        return self.entry.name

    @property
    def is_own(self) -> bool:
        """Whether it is one of the core's."""
        return self.entry.distribution == CORE

    @property
    def told(self) -> str:
        """The score in the words of errors: its name and, of a plugin's, who brought it."""
        return f"score {self.name}" if self.is_own else self.entry.told

    @property
    def needs_preparation(self) -> bool:
        """Whether it can only be had for a method."""
        return type(self.score).prepare is not Score.prepare

    def of(self, method: PromptMethod) -> Scorer:
        """The same with its resources, for a method and its classes as they are.

        Raises:
            PluginError: its code failed; or what it raises itself.
        """
        with outliving(), torch.no_grad(), blaming(self.entry):
            return replace(self, prepared=self.score.prepare(method))

    def __call__(self, output: MethodOutput) -> Tensor:
        """The scores of a batch.

        Raises:
            CapabilityError: the method does not give what it needs.
            PluginError: its code failed, or it gives something else than a number for each image.
        """
        with torch.no_grad(), blaming(self.entry):
            self.score.require(output)
            values_B: Any = self.score.score(output, self.prepared)
        if not isinstance(values_B, Tensor):
            raise self._wrong(f"gives a {type(values_B).__name__}", "score returns a tensor (B,)")
        if tuple(values_B.shape) != (len(output.logits),):
            shape, n = tuple(values_B.shape), len(output.logits)
            raise self._wrong(f"gives scores of shape {shape} for {n} images", f"they must be ({n},)")
        if not values_B.is_floating_point():
            raise self._wrong(f"gives scores of type {values_B.dtype}", "they are floating-point numbers")
        return values_B

    def basis(self, output: MethodOutput) -> str:
        """What it is computed on, and by whose code and with which options, in words for a result row.

        Raises:
            CapabilityError: the method does not give what it needs.
        """
        with blaming(self.entry):
            self.score.require(output)
            words = self.score.basis(output)
        if self.is_own:
            return words
        said = [f"{key}={value}" for key, value in self.score.config.model_dump(mode="json").items()]
        return f"{words} ({' '.join([f'{self.entry.distribution} {self.entry.version}', *said])})"

    def parts(self) -> dict[str, Any]:
        """What its values depend on beside the method and the images, as JSON types; nothing of the core's own."""
        if self.is_own:
            return {}
        with blaming(self.entry):
            parts = dict(self.score.parts())
        code = {self.entry.distribution: code_version(self.entry.distribution)}
        return {"code": code, "options": self.score.config.model_dump(mode="json"), "parts": parts}

    @property
    def label(self) -> str:
        """Its name, and for a plugin's a digest of all that its values depend on: what a threshold is kept by."""
        return self.name if self.is_own else f"{self.name} {digest_of(self.parts())[:_DIGITS]}"

    def _wrong(self, what: str, step: str) -> PluginError:
        return PluginError(f"{self.entry.told} {what}", hint=f"{step}; {self.entry.author}")


def scorer(name: str, options: Mapping[str, Any] | None = None, method: PromptMethod | None = None) -> Scorer:
    """A score by its name.

    Args:
        options: of a plugin's score, those that differ from the defaults.
        method: whose outputs it is for; a score that prepares nothing can be had without.

    Raises:
        UsageError: there is no such score or option, one is missing, or a value is not allowed.
        PluginError: its plugin failed, or it is no `Score`.
    """
    entry = score_entry(name)
    kind = score_type(name)
    config = score_config(name, options)
    with blaming(entry):
        found = Scorer(entry, kind(config))
    return found if method is None else found.of(method)


def score_type(name: str) -> type[Score]:
    """The class of a registered score.

    Raises:
        UsageError, PluginError: see `scorer`.
    """
    entry = score_entry(name)
    target: Any = entry.load()
    if not (isinstance(target, type) and issubclass(target, Score)):
        raise PluginError(
            f"{entry.told}: {entry.target} is not a Score", hint=f"name a subclass of Score; {entry.author}"
        )
    needs: Any = target.needs
    unknown = needs if isinstance(needs, str) else next((need for need in needs if need not in NEEDS), None)
    if unknown is not None:
        step = f"write needs = frozenset({{...}}) of {', '.join(NEEDS)}"
        raise PluginError(f"{entry.told}: needs holds an unknown name {unknown!r}", hint=f"{step}; {entry.author}")
    return target


def require_method(found: Scorer) -> None:
    """Refuse a score without a method that it has to be prepared for.

    Raises:
        UsageError: names the argument.
    """
    if found.needs_preparation:
        raise UsageError(
            f"score {found.name!r} is prepared for a method and its classes, and none is given",
            hint=f"ood_scores(output, {found.name!r}, method=method); for many batches "
            f"scorer({found.name!r}, options, method), which is prepared once",
        )
