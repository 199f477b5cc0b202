"""The temperature that a run was calibrated with."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.training.runs import Run

FILE = "calibration.json"
AGAIN = "'vlmprompt calibrate RUN' fits it again; without it, remove the file"


class _Calibration(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    checkpoint: str


def temperature_of(run: Run) -> float | None:
    """What logits are divided by before they become probabilities; None for a run that was not calibrated.

    Raises:
        InputError: the file cannot be read, or is that of another checkpoint.
    """
    path = run.path / FILE
    if not path.exists():
        return None
    try:
        said = _Calibration.model_validate_json(regular(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}", hint=AGAIN) from error
    if said.checkpoint != run.digest:
        raise InputError(f"{path} was fitted to another checkpoint than that of run {run.name}", hint=AGAIN)
    return said.temperature
