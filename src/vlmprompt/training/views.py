"""How many recorded views of each image a run reads, and what they save where the image tower is frozen.

Fresh augmentation, the papers' protocol, runs the tower over every image in every epoch. V recorded views run it over V
views of each image once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vlmprompt.config.models import TrainConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.schedule import Plan

CHOICES = (16, 8, 4, 1)
# What recorded views that are chosen by rule may cost of the fresh ones.
SHARE = 0.25


@dataclass(frozen=True)
class Views:
    """Views of each image in the training loop.

    Attributes:
        fresh: passes of the image tower over each image, over the whole run, where it runs every step.
        drawn: of them in a step.
        augmented: they differ.
        recorded: how many are computed once in their place; 0: none, the tower runs every step.
        worthwhile: how many the rule takes, see `worthwhile`; 0 where the method cannot train on them.
        asked: by the rule.
        why_fresh: why the method cannot train on them.
    """

    fresh: float
    drawn: int
    augmented: bool
    recorded: int
    worthwhile: int
    asked: bool
    why_fresh: str | None

    @classmethod
    def of(cls, train: TrainConfig, plan: Plan, method: PromptMethod, n_images: int) -> Views:
        """Those of a run."""
        drawn, reason, asked = method.training_views, why_not(method), train.views == "auto"
        fresh = drawn * passes(train, plan, n_images)
        best = 0 if reason else worthwhile(fresh, drawn=drawn, augmented=train.augment)
        return cls(fresh, drawn, train.augment, best if train.views == "auto" else train.views, best, asked, reason)

    @property
    def words(self) -> str | None:
        """What the rule chose and why, or what recorded views would save; None where there is nothing to say."""
        if self.asked and not self.recorded:
            few = f"the image tower would run over each image {self.fresh:.3g} times, too few for recorded ones to save"
            return f"--views auto: fresh views; {self.why_fresh or few}"
        if self.asked:
            return (
                f"--views auto: {_counted(self.recorded)} of each image, computed once, where the image tower would "
                f"run over it {self.fresh:.3g} times: {self.fresh / self.recorded:.3g} times less"
            )
        if self.recorded or not self.worthwhile:
            return None
        kind = "fresh views" if self.augmented else "the same view in every epoch"
        return (
            f"{kind}: the image tower runs every step; --views {self.worthwhile} would run it over "
            f"{_counted(self.worthwhile)} of each image once: {self.fresh / self.worthwhile:.3g} times less"
        )

    def report(self) -> dict[str, Any]:
        """JSON-able, for the dry run."""
        return {**asdict(self), "in_words": self.words}


def passes(train: TrainConfig, plan: Plan, n_images: int) -> float:
    """How often the loop comes to each image."""
    return plan.steps * min(train.batch_size, n_images) / n_images


def worthwhile(fresh: float, *, drawn: int, augmented: bool) -> int:
    """The most of 16, 8, 4 and 1 recorded views that cost at most a quarter of the fresh ones; 0 where none do.

    Args:
        fresh: see `Views`.
        drawn: fewest that there may be.
        augmented: without it all views of an image are the same, and 1 is enough.
    """
    choices = [views for views in (CHOICES if augmented else (1,)) if views >= drawn]
    return next((views for views in choices if views <= SHARE * fresh), 0)


def why_not(method: PromptMethod) -> str | None:
    """Why a method cannot train on features computed once; None where it can."""
    if method.image_needs().grad:
        return "it trains through the image tower, so an image's features change at every step"
    if "feature_cache" not in method.capabilities:
        return "it does not say that it can train on features computed once"
    return None


def view_lines(report: Mapping[str, Any]) -> list[str]:
    """What a dry run says of views, with the share of the image tower where it runs every step."""
    views, flops, steps = report["views"], report["flops"], report["plan"]["steps"]
    if views is None or views["in_words"] is None:
        return []
    if views["asked"]:
        return [f"views     {views['in_words']}"]
    tower, whole = (steps * count / 1e12 for count in (views["drawn"] * flops["image"], flops["step"]))
    return [f"views     {views['in_words']} ({tower:.3g} of the run's {whole:.3g} TFLOP are the tower's)"]


def _counted(n: int) -> str:
    return f"{n} view{'s' * (n != 1)}"
