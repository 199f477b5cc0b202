"""What `vlmprompt predict` is asked for, and what becomes of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vlmprompt.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.predict.predictor import Predictor
    from vlmprompt.predict.sorting import How, Sorter

LINKS = ("hard", "symbolic")
_ASKED = "Unknown things and sets of classes"
_WRITTEN = "Output"


@dataclass(frozen=True, kw_only=True)
class AskedFlags:
    """What is to be said of a picture."""

    top: Annotated[
        int, typer.Option("--top", min=1, help="Number of classes to show per picture, most likely first.")
    ] = 3
    no_calibration: Annotated[
        bool, typer.Option("--no-calibration", help="Ignore the temperature in calibration.json.")
    ] = False
    reject: Annotated[
        float | None,
        typer.Option(
            "--reject",
            metavar="SHARE",
            help="Reject unknown things, keeping this share of the run's own images, such as 0.95.",
            rich_help_panel=_ASKED,
        ),
    ] = None
    score: Annotated[
        str | None,
        typer.Option("--score", help="Score for --reject: mcm (default), gl-mcm, energy, ...", rich_help_panel=_ASKED),
    ] = None
    score_set: Annotated[
        list[str] | None,
        typer.Option(
            "--score-set",
            metavar="NAME.OPTION=VALUE",
            help="One option of a plugin's score; may be repeated.",
            rich_help_panel=_ASKED,
        ),
    ] = None
    conformal: Annotated[
        float | None,
        typer.Option(
            "--conformal",
            metavar="SHARE",
            help="Give sets of classes, of which this share may miss the true class, such as 0.1.",
            rich_help_panel=_ASKED,
        ),
    ] = None

    def wishes(self) -> dict[str, Any]:
        """The arguments of `Wishes`.

        Raises:
            UsageError: a share or a score that there is not, or an option that has no effect.
        """
        require_beside("score", self.score, "reject", self.reject)
        from vlmprompt.predict.rejection import require_alpha, require_keep, require_score

        found: dict[str, Any] = {"reject": self.reject, "conformal": self.conformal}
        found["calibrated"] = not self.no_calibration
        if self.score is not None:
            require_score(self.score)
            found["score"] = self.score
        if self.reject is not None:
            require_keep(self.reject)
        if self.conformal is not None:
            require_alpha(self.conformal)
        return found | ({"score_options": self._score_options(self.score_set)} if self.score_set else {})

    def _score_options(self, assignments: list[str]) -> dict[str, dict[str, Any]]:
        """What --score-set says of the score that is asked for. Raises: UsageError."""
        from vlmprompt.methods.score_config import read_score_settings

        found = read_score_settings(assignments)
        for name in found:
            if name != self.score:
                raise UsageError(f"--score-set {name} has no effect on this score", hint=f"add --score {name}")
        return found


@dataclass(frozen=True, kw_only=True)
class WrittenFlags:
    """What becomes of what is said, and of the pictures."""

    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="table, csv or jsonl; for --out, default by its file name.",
            rich_help_panel=_WRITTEN,
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the result to this file, completely or not at all.", rich_help_panel=_WRITTEN
        ),
    ] = None
    sort_into: Annotated[
        Path | None,
        typer.Option(
            "--sort-into",
            metavar="DIR",
            help="Copy each picture into a folder of its class there; rejected ones into unknown.",
            rich_help_panel=_WRITTEN,
        ),
    ] = None
    link: Annotated[
        str | None,
        typer.Option(
            "--link", metavar="KIND", help="Link instead of copying: hard or symbolic.", rich_help_panel=_WRITTEN
        ),
    ] = None

    def require_together(self) -> None:
        """Raises: UsageError: --link without --sort-into, or of no kind that there is."""
        require_beside("link", self.link, "sort_into", self.sort_into)
        if self.link is not None and self.link not in LINKS:
            raise UsageError(f"unknown kind of link {self.link!r}", hint=did_you_mean(self.link, LINKS))

    def sorter(self, predictor: Predictor) -> Sorter | None:
        """Who sorts the pictures; None where nobody is to."""
        if self.sort_into is None:
            return None
        from vlmprompt.predict.sorting import Sorter

        return Sorter(self.sort_into, predictor.class_names, cast("How", self.link or "copy"))


def require_beside(option: str, given: object, other: str, meant: object) -> None:
    """Refuse an option that another one gives its meaning, without that. Raises: UsageError."""
    if given is not None and meant is None:
        names = [f"--{name.replace('_', '-')}" for name in (option, other)]
        raise UsageError(f"{names[0]} has no effect without {names[1]}", hint=f"add {names[1]}, or leave it out")
