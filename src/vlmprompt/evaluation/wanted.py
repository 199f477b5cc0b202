"""What a measurement of runs is to be like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlmprompt.methods.score_config import ScoreOptions
from vlmprompt.results.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What `runner.evaluate` is asked for; it says what each means."""

    reference: bool | str | Sequence[str] = True
    force: bool = False
    ledger: Ledger | None = None
    patient: bool = True
    references_dir: Path | None = None
    companions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    score_options: ScoreOptions | None = None
    data: str | None = None
    aliases: Path | str | Mapping[str, str] | None = None
    contents: bool = False
    allow_overlap: bool = False
    calibrated: bool = False
    descriptions: Path | str | None = None


PLAIN = Wanted()
