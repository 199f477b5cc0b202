"""The result row: long format, one number a row."""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# not_applicable: the method cannot serve it; missing: something else must be there first, such as other runs.
Status = Literal["ok", "not_applicable", "missing", "failed"]
# What reruns and tables need, and people do not.
PRIVATE = frozenset({"key", "enters", "of", "listing"})
# Keys of `ResultRow.setup` that say of which data and towers a number is, where their names do not.
DATA, DATA_DIGEST, BACKBONE_DIGEST = "data", "data digest", "backbone digest"
TEMPERATURE = "temperature"  # key of `ResultRow.setup` of what was measured at one


class ResultRow(BaseModel):
    """One measured number with everything that identifies it.

    `value` is null unless `status` is "ok"; it is never NaN or infinite. Accuracies and areas are
    fractions in [0, 1]. `n` is the number of images behind the number.

    Attributes:
        shots: images a class that were learned from; None: all, or (without a seed) none; 0: none, but there is a seed,
            that of test streams.
        setup: what else the number depends on, but for the seed, as text: settings other than those that method,
            data, towers and shots imply; the data's spec and digest; the towers' digest; versions of our code;
            the temperature that logits were divided by.
            Rows that differ in it are not seeds of one thing.
        key: digest of the unit of work (configuration, data, checkpoint, suite, code) that reruns skip by.
        enters: names of the means that it is a part of, such as "mean".
        of: of a mean, the cells that it averages.
        listing: digest of the cells that the suite listed together with this one.
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
    setup: dict[str, str] = Field(default_factory=dict)
    key: str = ""
    enters: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    listing: str = ""

    @model_validator(mode="after")
    def _no_nan(self) -> Self:
        """Behind the fields' own checks: one ahead of them would turn each line of a file into a dict first."""
        if self.value is not None and (self.status != "ok" or not isfinite(self.value)):
            if not isfinite(self.value):
                self.__dict__ |= {"status": "failed", "note": f"{self.note} value was not finite".strip()}
            self.__dict__["value"] = None
        return self

    def __repr__(self) -> str:
        number = self.status if self.value is None else f"{self.value:.4g}"
        what = f"{self.method} on {self.dataset}: {self.suite} {self.cell} {self.metric}"
        return f"ResultRow({what} = {number}, run {self.run!r})"

    def public(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        return self.model_dump(exclude=set(PRIVATE))
