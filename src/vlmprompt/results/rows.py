"""The result row: long format, one number a row."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

Status = Literal["ok", "not_applicable", "failed"]


class ResultRow(BaseModel):
    """One measured number with everything that identifies it.

    `value` is null unless `status` is "ok"; it is never NaN or infinite. Accuracies and areas are
    fractions in [0, 1]. `n` is the number of images behind the number. `key` is the digest of the unit
    of work (configuration, data, checkpoint, suite and its version) that reruns skip by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    method: str
    dataset: str
    backbone: str
    shots: int | None
    seed: int | None
    suite: str
    suite_version: int
    cell: str
    metric: str
    value: float | None
    n: int | None
    higher_is_better: bool = True
    status: Status = "ok"
    note: str = ""
    key: str = ""

    @model_validator(mode="before")
    @classmethod
    def _no_nan(cls, data: Any) -> Any:
        if isinstance(data, dict):
            value = data.get("value")
            if value is not None and not (float("-inf") < float(value) < float("inf")):
                data = data | {"value": None, "status": "failed"}
                data["note"] = f"{data.get('note', '')} value was not finite".strip()
            if data.get("status", "ok") != "ok":
                data = data | {"value": None}
        return data

    def public(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        return self.model_dump(exclude={"key"})
