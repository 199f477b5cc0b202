"""`calibration.json`: the temperature that `vlmprompt calibrate` has fitted to a run, read as outside input."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vlmprompt.errors import InputError
from vlmprompt.regular import regular

CALIBRATION_FILE = "calibration.json"
AGAIN = "fit it again with 'vlmprompt calibrate'"
Metrics = dict[str, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Measured(_Model):
    """Metrics of calibration of n images, as they were and at the temperature."""

    n: int
    before: Metrics
    after: Metrics


class Sets(_Model):
    """Prediction sets that may miss a share `alpha` of the images; see `evaluation.calibrate.Sets`."""

    alpha: float
    threshold: float
    n: int
    coverage: float | None = None
    mean_size: float | None = None
    test_n: int = 0


class Fitted(Measured):
    """What the page reads of the file; the metrics of `Measured` are those of the images that it was fitted on."""

    checkpoint: str | None = None
    temperature: float
    split: str
    test: Measured | None = None
    conformal: tuple[Sets, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Fitted | None:
        """What lies in a run's folder; None where nothing was fitted.

        Raises:
            InputError: the file cannot be read, or is damaged.
        """
        path = folder / CALIBRATION_FILE
        try:
            return cls.model_validate_json(regular(path).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}", hint="check who may read it") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "JSON"
            raise InputError(f"{path} is damaged ({where}: {first['msg']})", hint=AGAIN) from error
