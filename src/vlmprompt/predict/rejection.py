"""Telling pictures of the known classes from all others: a score, and the threshold from which it counts as known.

Shapes: N images of known classes, B pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from vlmprompt.errors import UsageError, did_you_mean
from vlmprompt.methods.score_names import known_scores

DEFAULT_SCORE = "mcm"
KNOWN, UNKNOWN = "known", "unknown"


@dataclass(frozen=True)
class Reference:
    """The images that a threshold was found by.

    Attributes:
        split: "val" or "test".
        n: their number.
    """

    split: str
    n: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.n:,} {'validation' if self.split == 'val' else self.split} images"


@dataclass(frozen=True)
class Rejection:
    """From which score a picture counts as one of the known classes.

    Attributes:
        score: of SCORES, or the label of a plugin's (`Scorer.label`); higher is more in-distribution.
        keep: the share of the reference images that are kept.
        threshold: a picture is known if its score is at least this.
    """

    score: str
    keep: float
    threshold: float
    reference: Reference

    def verdicts(self, scores_B: Sequence[float]) -> list[str]:
        """ "known" or "unknown" for each score."""
        return [KNOWN if score >= self.threshold else UNKNOWN for score in scores_B]

    @property
    def words(self) -> str:
        """For people."""
        kept = f"{100 * self.keep:.4g} % of {self.reference.words}"
        return f"a picture is known from {self.score} {self.threshold:.6g} on, which keeps at least {kept}"


def keep_threshold(scores_N: Sequence[float], keep: float) -> float:
    """The highest threshold at which at least a share of some scores is kept: the ceil(keep N)-th highest of them.

    Args:
        scores_N: finite, at least one.
        keep: above 0, up to 1.
    """
    # As it was written: 0.7 of 10 are 7, and not the 8 to which 0.7 * 10 > 7 would be rounded.
    rank = math.ceil(Fraction(str(keep)) * len(scores_N))
    return sorted(scores_N, reverse=True)[rank - 1]


def require_keep(keep: float) -> None:
    """Refuse what is no share.

    Raises:
        UsageError: it is not above 0 and up to 1.
    """
    if not 0 < keep <= 1:
        raise UsageError(
            f"the share of known images to keep must be above 0 and at most 1, not {keep:g}",
            hint="such as 0.95: a picture is known if it scores like the upper 95 % of the run's own images",
        )


def require_alpha(alpha: float) -> None:
    """Refuse what is no share.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise UsageError(
            f"the share of sets that may miss their class must be between 0 and 1, not {alpha:g}",
            hint="such as 0.1, for sets that hold the true class of 90 % of pictures",
        )


def require_score(name: str) -> None:
    """Refuse a score that there is not.

    Raises:
        UsageError: names those that there are.
    """
    if name not in known_scores():
        raise UsageError(f"unknown score {name!r}", hint=did_you_mean(name, known_scores()))
