"""A run as the page sees it: what determined it, what was measured, and what else lies in its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprompt.errors import InputError

if TYPE_CHECKING:
    from vlmprompt.predict.calibrated import Calibrated
    from vlmprompt.report.explained import Explained
    from vlmprompt.results.details import Details
    from vlmprompt.results.rows import ResultRow
    from vlmprompt.training.run_info import RunInfo


class DetailsFolder(Mapping[str, "Details"]):
    """What was measured of each image: key of a result row -> its file, read when it is first asked for.

    A key without a file is not in it, nor is one whose file is damaged: that is told once, to `complain`.

    Args:
        results: the results file that they lie beside.
        keys: of the rows that count; files of others, measured before, are left alone.
        complain: is told what is damaged.
    """

    def __init__(self, results: Path, keys: Iterable[str], complain: Callable[[str], None]) -> None:
        self.results = results
        self._keys = tuple(dict.fromkeys(key for key in keys if key))
        self._complain = complain
        self._read: dict[str, Details | None] = {}

    def __getitem__(self, key: str) -> Details:
        if key not in self._read:
            self._read[key] = self._load(key)
        found = self._read[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._keys if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load(self, key: str) -> Details | None:
        from vlmprompt.results.details import Details, details_file

        file = details_file(self.results, key)
        if key not in self._keys or file is None or not file.exists():
            return None
        try:
            return Details.read(file)
        except InputError as error:
            self._complain(error.told)
            return None


@dataclass(frozen=True)
class ReportRun:
    """One run, or a reference method that was measured beside it (zero-shot, linear probe, descriptions).

    Attributes:
        name: the run's, as its rows say; of a reference too: the two differ in `method`.
        path: the run's folder; None where only its results are there, and of references.
        info: its run.json; None where there is none, and of references.
        rows: what was measured of this method, and still holds; empty where nothing was.
        log: lines of log.jsonl, in order; empty without a training loop.
        details: see `DetailsFolder`; by `ResultRow.key`. Rows of one cell have one key, whatever the metric.
        explained: what `vlmprompt explain` has drawn, or None.
        calibration: the temperature that was fitted to it, or None.
        method: of the run.
        reference: measured beside the run `name`.
        root: parent folder of the data sets' folders, if one was named.
    """

    name: str
    path: Path | None
    info: RunInfo | None
    rows: list[ResultRow]
    log: list[dict[str, Any]] = field(default_factory=list)
    details: Mapping[str, Details] = field(default_factory=dict)
    explained: Explained | None = None
    calibration: Calibrated | None = None
    method: str = ""
    reference: bool = False
    root: Path | None = None

    @property
    def title(self) -> str:
        """For headings: tells it apart from all other runs of a page."""
        return f"{self.method} beside {self.name}" if self.reference else self.name
