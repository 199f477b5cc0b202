"""`thresholds.json` of a run: what its own images have set, kept so that the next call needs no data.

Shapes: N images of known classes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from vlmprompt.atomic import write_atomic
from vlmprompt.predict.conformal import least_images, prediction_sets
from vlmprompt.predict.rejection import Reference, Rejection
from vlmprompt.regular import regular

THRESHOLDS_FILE = "thresholds.json"


@dataclass(frozen=True)
class SetThreshold:
    """How much probability a class needs to be in a prediction set.

    Attributes:
        alpha: the share of pictures of known classes whose set may miss their class.
        threshold: of `conformal_threshold`.
        temperature: of the probabilities that it is for.
    """

    alpha: float
    threshold: float
    temperature: float
    reference: Reference

    def sets(self, probabilities_NK: Tensor) -> Tensor:
        """The classes of each set, bool (N,K)."""
        return prediction_sets(probabilities_NK, self.threshold)

    @property
    def words(self) -> str:
        """For people."""
        images, least = self.reference.words, least_images(self.alpha)
        if self.reference.n < least:
            return f"sets hold every class: {self.alpha:g} wants at least {least:,} images, and these are {images}"
        share = f"{100 * (1 - self.alpha):.4g} %"
        return f"sets hold the right class of {share} of pictures of known classes, as of {images}"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    split: Literal["val", "test"]
    n: int
    threshold: float

    @property
    def reference(self) -> Reference:
        return Reference(self.split, self.n)


class _Rejecting(_Entry):
    score: str
    keep: float


class _Covering(_Entry):
    alpha: float
    temperature: float


class Thresholds(BaseModel):
    """The content of the file.

    Attributes:
        checkpoint: digest of the checkpoint that the thresholds were found with.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    version: Literal[1] = 1
    checkpoint: str
    rejection: tuple[_Rejecting, ...] = ()
    conformal: tuple[_Covering, ...] = ()

    @classmethod
    def read(cls, run: Path, checkpoint: str) -> Thresholds:
        """What a run keeps. Nothing of a file that is damaged or another checkpoint's: it can be redone."""
        try:
            found = cls.model_validate_json(regular(run / THRESHOLDS_FILE).read_bytes())
        except (OSError, ValidationError):
            return cls(checkpoint=checkpoint)
        return found if found.checkpoint == checkpoint else cls(checkpoint=checkpoint)

    def rejecting(self, score: str, keep: float) -> Rejection | None:
        """The threshold of a score, if it is kept."""
        for one in self.rejection:
            if (one.score, one.keep) == (score, keep):
                return Rejection(score, keep, one.threshold, one.reference)
        return None

    def covering(self, alpha: float, temperature: float) -> SetThreshold | None:
        """The threshold of prediction sets, if it is kept."""
        for one in self.conformal:
            if (one.alpha, one.temperature) == (alpha, temperature):
                return SetThreshold(alpha, one.threshold, temperature, one.reference)
        return None

    def with_(self, *found: Rejection | SetThreshold) -> Thresholds:
        """With more thresholds; of one that is there already nothing changes."""
        rejection, conformal = self.rejection, self.conformal
        for one in found:
            of = {"split": one.reference.split, "n": one.reference.n, "threshold": one.threshold}
            if isinstance(one, Rejection):
                if self.rejecting(one.score, one.keep) is not None:
                    continue
                rejection = (*rejection, _Rejecting.model_validate({**of, "score": one.score, "keep": one.keep}))
            elif self.covering(one.alpha, one.temperature) is None:
                more = {**of, "alpha": one.alpha, "temperature": one.temperature}
                conformal = (*conformal, _Covering.model_validate(more))
        return self.model_copy(update={"rejection": rejection, "conformal": conformal})

    def write(self, run: Path) -> None:
        """Keep them in a run's folder.

        Raises:
            InputError: it cannot be written.
        """
        write_atomic(run / THRESHOLDS_FILE, (self.model_dump_json(indent=2) + "\n").encode(), make_folder=False)
