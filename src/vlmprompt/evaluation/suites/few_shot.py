"""Accuracy as a curve over shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlmprompt.evaluation.classified import TOP1, top1_measurement
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement, Reading, missing
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.variants import train_command

SHOTS = (1, 2, 4, 8, 16)


class FewShotSuite:
    """Top-1 accuracy on the test split over 1, 2, 4, 8 and 16 shots (CoOp, Zhou et al., IJCV 2022).

    One cell a number of shots: the evaluated run, and the runs beside it that differ from it in shots only
    (and in what the method's shipped settings make depend on shots, such as epochs). What is missing of the
    five is named with the command that trains it. A method that learns nothing has the one cell "0-shot".
    """

    name = "few-shot"
    version = 1
    needs_siblings = True  # a run's numbers are those of other shots, too

    def cells(self, context: Context) -> Sequence[Cell]:
        """One a number of shots, in ascending order."""
        if context.subject.untrained:
            return [_measured(context, context.subject, "0-shot")]
        curve = context.siblings
        expected = () if context.subject.reference else SHOTS
        lacking = [k for k in expected if k not in curve]
        cells = {k: _measured(context, subject, _name(k)) for k, subject in curve.items()}
        cells |= {k: _missing(context.subject, k, lacking) for k in lacking}
        return [cells[k] for k in sorted(cells, key=lambda k: float("inf") if k is None else k)]


def _name(shots: int | None) -> str:
    return "all-shot" if shots is None else f"{shots}-shot"


def _measured(context: Context, subject: Subject, name: str) -> Cell:
    def compute() -> Measurement:
        predictions = context.predict(context.method(subject), context.trained)
        other = f"measured on run {subject.run}" if subject.run != context.subject.run else ""
        return top1_measurement(predictions, context.trained, note=other)

    return Cell(
        name, TOP1, compute, subject=replace(subject, run=context.subject.run), reads=(Reading(context.trained),)
    )


def _missing(subject: Subject, shots: int, lacking: Sequence[int]) -> Cell:
    """All that are missing have one reason, so that a table gives it once; it names no folder of this machine."""
    command = train_command(subject.config, subject.sources, shots=lacking[0])
    others = f" (and with {', '.join(map(str, lacking[1:]))})" if len(lacking) > 1 else ""
    reason = (
        f"no run with {', '.join(map(str, lacking))} shots in the same folder of runs; to train it: {command}{others}"
    )
    return missing(_name(shots), TOP1, reason, subject=replace(subject, shots=shots))
