"""`calibration.json` of a run: the temperature by which its probabilities mean what they say, and what it changed.

It is read as outside input. torch is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.errors import InputError
from vlmprompt.predict.rejection import Reference
from vlmprompt.regular import regular
from vlmprompt.shown import problem

CALIBRATION_FILE = "calibration.json"
LEAVE_OUT = "; --no-calibration leaves the probabilities as they are"
Split = Literal["val", "test"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Measured(_Part):
    """Metrics of calibration of n images, as they were and at the temperature."""

    n: int
    before: dict[str, float] = Field(default_factory=dict)
    after: dict[str, float] = Field(default_factory=dict)


class Sets(_Part):
    """Prediction sets at the temperature.

    Attributes:
        alpha: the share of images whose set may lack the right class.
        threshold: of `conformal_threshold`; 1 where n images are too few, so that sets hold all classes.
        n: validation images that set it.
        coverage: the share of test images whose set holds the right class; None without test images.
        mean_size: classes in a set, over test images.
        test_n: test images.
    """

    alpha: float
    threshold: float
    n: int
    coverage: float | None = None
    mean_size: float | None = None
    test_n: int = 0


class Calibrated(_Part):
    """The content of the file.

    Attributes:
        checkpoint: SHA-256 of the run's checkpoint; of another one the file says nothing.
        temperature: logits are divided by it.
        split, n: the images that it was fitted on.
        before, after: metrics of calibration on them, at temperature 1 and at this one.
        val: ids of the validation images; empty where test images were taken.
        test: the same metrics on the test images; None where there are none, or it was fitted on them.
        conformal: empty where the temperature was fitted on test images.
    """

    version: Literal[1] = 1
    checkpoint: str
    temperature: float = Field(gt=0, allow_inf_nan=False)
    split: Split
    n: int
    before: dict[str, float] = Field(default_factory=dict)
    after: dict[str, float] = Field(default_factory=dict)
    val: tuple[str, ...] = ()
    test: Measured | None = None
    conformal: tuple[Sets, ...] = ()

    @classmethod
    def read(cls, run: Path, checkpoint: str | None, instead: str = "") -> Calibrated | None:
        """What lies in a run's folder; None where nothing was fitted.

        Args:
            checkpoint: of the run; None: it is not known, and does not matter.
            instead: the other thing that can be done where the file cannot be used, behind the hint to fit again.

        Raises:
            InputError: the file cannot be read, is damaged, or was fitted for another checkpoint.
        """
        path = run / CALIBRATION_FILE
        again = f"'vlmprompt calibrate RUN' fits it again{instead}"
        try:
            found = cls.model_validate_json(regular(path).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}", hint=again) from error
        except ValidationError as error:
            raise InputError(f"{path} is damaged ({problem(error)})", hint=again) from error
        if checkpoint not in (None, found.checkpoint):
            raise InputError(f"{path} was fitted for another checkpoint than the one beside it", hint=again)
        return found

    @property
    def words(self) -> str:
        """For people."""
        images = Reference(self.split, self.n).words
        return f"probabilities are calibrated: temperature {self.temperature:.4g}, fitted on {images}"
