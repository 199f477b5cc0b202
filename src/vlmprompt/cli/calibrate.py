"""`vlmprompt calibrate`: a temperature for a run, so that its probabilities mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.machine import MachineFlags
from vlmprompt.cli.names import finished_run, require_backbones
from vlmprompt.cli.options import (
    BackboneOption,
    JsonFlag,
    RunsDirOption,
)
from vlmprompt.cli.output import Table
from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.predict.calibrated import Calibrated

# Those of evaluation/calibrate.py; importing it would import torch, and a slip needs none.
SPLITS = ("val", "test")
SHOWN = {"ece_15": "ECE", "ece_adaptive_15": "ECE, adaptive", "nll": "NLL", "brier": "Brier", "aurc": "AURC"}
FRACTIONS = ("ece_15", "ece_adaptive_15", "aurc")


def register(app: typer.Typer) -> None:
    """Add `calibrate`."""
    app.command("calibrate")(calibrate)


@grouped
def calibrate(
    *,
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Run folder or name; default: the newest run.")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Images to fit on: val, or test where there are no others.")
    ] = "val",
    as_json: JsonFlag = False,
    backbone: BackboneOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    machine: MachineFlags,
) -> None:
    """Fit a temperature to a run, so that its probabilities can be trusted.

    Logits are divided by the temperature: predictions stay as they are, only
    how sure they are changes. It is fitted on the run's validation images and
    kept in its calibration.json. 'predict' uses it from then on, 'evaluate
    --calibrated' measures with it.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r} to fit on", hint=did_you_mean(split, SPLITS))
    machine.require_device()
    require_backbones([(backbone, None)] if backbone else ())
    progress = CliProgress()
    run = finished_run(run, runs_dir, progress)
    from vlmprompt.evaluation.calibrate import calibrate as fit
    from vlmprompt.predict.calibrated import CALIBRATION_FILE

    runtime = machine.runtime(runs_dir=runs_dir)
    fitted = fit(run, runtime, split=split, backbone=backbone, progress=progress)
    progress.message(f"kept in {run / CALIBRATION_FILE}")
    output.emit("calibrate", fitted.model_dump(mode="json") | {"run": run}, as_json=as_json, table=_tables(fitted))


def _tables(fitted: Calibrated) -> list[Table | str]:
    name = "validation" if fitted.split == "val" else "test"
    said = f"temperature {fitted.temperature:.4g}, fitted on {fitted.n:,} {name} images\n"
    tables: list[Table | str] = [said, Table(("metric", *_heads(fitted)), _metrics(fitted))]
    if fitted.conformal:
        columns = ("sets that may miss", "hold classes of at least", "images", "covered", "mean size", "test images")
        tables += ["", Table(columns, _sets(fitted))]
    return tables


def _heads(fitted: Calibrated) -> list[str]:
    parts = [(fitted.split, fitted.n)] + ([] if fitted.test is None else [("test", fitted.test.n)])
    return [f"{split} {when} ({n:,})" for split, n in parts for when in ("before", "after")]


def _metrics(fitted: Calibrated) -> list[tuple[str, ...]]:
    columns = [fitted.before, fitted.after]
    columns += [] if fitted.test is None else [fitted.test.before, fitted.test.after]
    return [(f"{text} ↓", *(_number(name, column[name]) for column in columns)) for name, text in SHOWN.items()]


def _number(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name in FRACTIONS else f"{value:.4f}"


def _sets(fitted: Calibrated) -> list[tuple[str, ...]]:
    return [
        (
            f"{one.alpha:.0%}",
            f"{1 - one.threshold:.4f}",
            f"{one.n:,}",
            "–" if one.coverage is None else f"{one.coverage:.2%}",
            "–" if one.mean_size is None else f"{one.mean_size:.2f}",
            f"{one.test_n:,}" if one.test_n else "–",
        )
        for one in fitted.conformal
    ]
