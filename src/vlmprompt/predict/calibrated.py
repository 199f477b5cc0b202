"""`calibration.json` of a run: the temperature by which its probabilities mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.errors import InputError
from vlmprompt.predict.rejection import Reference
from vlmprompt.regular import regular

CALIBRATION_FILE = "calibration.json"
_AGAIN = "'vlmprompt calibrate RUN' fits it again; --no-calibration leaves the probabilities as they are"


class Calibration(BaseModel):
    """What prediction reads of the file.

    Attributes:
        temperature: logits are divided by it.
        split, n: the images that it was fitted on.
        checkpoint: digest of the checkpoint that it was fitted for.
    """

    model_config = ConfigDict(frozen=True)

    temperature: float = Field(gt=0, allow_inf_nan=False)
    split: Literal["val", "test"]
    n: int
    checkpoint: str

    @classmethod
    def read(cls, run: Path, checkpoint: str) -> Calibration | None:
        """The calibration of a run; None where there is none.

        Raises:
            InputError: the file is damaged, or was fitted for another checkpoint.
        """
        path = run / CALIBRATION_FILE
        try:
            found = cls.model_validate_json(regular(path).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}", hint=_AGAIN) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "JSON"
            raise InputError(f"{path} is damaged ({where}: {first['msg']})", hint=_AGAIN) from error
        if found.checkpoint != checkpoint:
            raise InputError(f"{path} was fitted for another checkpoint than the one beside it", hint=_AGAIN)
        return found

    @property
    def words(self) -> str:
        """For people."""
        images = Reference(self.split, self.n).words
        return f"probabilities are calibrated: temperature {self.temperature:.4g}, fitted on {images}"
