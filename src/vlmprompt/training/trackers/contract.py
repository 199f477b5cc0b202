"""What a tracker is, and what it is told; this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

Ending = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class TrackedRun:
    """A run that begins, or goes on.

    Attributes:
        name: its folder's name.
        folder: where its files are; a tracker's own belong there.
        config: what determines it, as in run.json.
        class_names: in label order.
        steps: optimiser steps taken before; 0 for a run that begins.
        records: gives all records so far, those of `steps` at the start; read from log.jsonl at each call.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    steps: int
    records: Callable[[], list[dict[str, Any]]]


class Tracker:
    """Told of a run while it trains. Override what you need; all methods do nothing by default.

    It is made without arguments, before a run is begun and before torch is loaded. Raise `InputError` there where
    something is missing, such as a package; what fails later costs the run nothing (see `Trackers`).
    """

    # Names of its files and folders in the run's folder, to be listed in run.json.
    files: ClassVar[tuple[str, ...]] = ()

    def start(self, run: TrackedRun) -> None:
        """The run begins, or goes on after `run.steps` steps; what was told of later steps before is void."""

    def record(self, record: Mapping[str, Any]) -> None:
        """A line of log.jsonl: of a step, of an epoch (`epoch_end`), or of the error that ends the run (`error`)."""

    def flush(self) -> None:
        """A checkpoint is about to be written: a resumed run will not tell again what was told up to here."""

    def end(self, ending: Ending, error: str | None) -> None:
        """The run is over.

        Args:
            error: why, where it has not finished.
        """


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A record without tables in it: `parts.ce` for {"parts": {"ce": ..}}."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
