"""`vlmprompt predict`: what pictures show, by a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli import output
from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.options import BackboneOption, DeviceOption, JsonFlag, RootOption, RunsDirOption
from vlmprompt.cli.predict_flags import AskedFlags, WrittenFlags
from vlmprompt.cli.predict_words import inputs_of, parted, require_place
from vlmprompt.cli.predicted import Target, public
from vlmprompt.cli.progress import CliProgress
from vlmprompt.config.limits import MOST_IMAGES, MOST_WORKERS
from vlmprompt.errors import VlmPromptError

if TYPE_CHECKING:
    from vlmprompt.predict.predictor import Predictor
    from vlmprompt.predict.work import Tally
    from vlmprompt.training.runs import Run

_WHERE = "Machine and folders"


def register(app: typer.Typer) -> None:
    """Add `predict`."""
    app.command("predict")(predict)


@grouped
def predict(
    *,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] IMAGE",
            help="A run (default: the newest); then pictures, folders, patterns, or - for a list of paths on stdin.",
            show_default=False,
        ),
    ],
    asked: AskedFlags,
    written: WrittenFlags,
    as_json: JsonFlag = False,
    backbone: BackboneOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, max=MOST_IMAGES, help="Pictures per step.", rich_help_panel=_WHERE),
    ] = None,
    device: DeviceOption = "auto",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            max=MOST_WORKERS,
            help="Threads that read pictures ahead; 0: read each when needed.",
            rich_help_panel=_WHERE,
        ),
    ] = 2,
    root: RootOption = None,
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Classify pictures with a trained run.

    Folders are searched for images at any depth. Pictures that cannot be read
    are named and skipped; the exit code is then 5.

      vlmprompt predict photos/
      vlmprompt predict runs/mine 'photos/*.jpg' --reject 0.95 --sort-into sorted
      find . -name '*.png' | vlmprompt predict runs/mine - --format jsonl
    """
    written.require_together()
    wishes, sort_into = asked.wishes(), written.sort_into
    target = Target.of(written.form, written.out, as_json=as_json)
    named, words = parted(words, runs_dir)
    require_place(named, runs_dir, device, backbone)
    inputs = inputs_of(words, sort_into, as_json=as_json)
    total = inputs.count()
    target.require(total)
    from vlmprompt.config.models import Runtime
    from vlmprompt.predict.work import predict_all
    from vlmprompt.training.predicting import Wishes, predictor_of

    progress = CliProgress(bars=target.bars(total))
    run = _loaded(named, runs_dir, progress)
    runtime = Runtime(device=device, workers=workers, root=root, runs_dir=runs_dir)
    shares: dict[str, Any] = {"spec": backbone, "batch_size": batch_size, "shown": asked.top, "progress": progress}
    predictor = predictor_of(run, Wishes(**wishes), runtime, **shares)
    sorter = written.sorter(predictor)
    with target.opened() as writer:
        tally = predict_all(
            predictor,
            inputs,
            writer,
            progress,
            total=total,
            complain=_complain,
            sorter=sorter,
            stop=lambda: sorter is None and target.abandoned,
        )
    for line in _told(tally, predictor, sort_into, written.out):
        progress.message(line)
    data = _document(run, predictor, tally) | {"out": written.out, "sorted_into": sort_into}
    data |= {"predictions": target.rows} if target.form == "document" else {}
    output.emit("predict", data, as_json=as_json, error=tally.failure)


def _loaded(named: Path | None, runs_dir: Path, progress: CliProgress) -> Run:
    """The run; the newest where none is named, which is said."""
    from vlmprompt.training.runs import load_run, newest_run

    if named is None:
        named = newest_run(runs_dir)
        progress.message(f"newest run: {named}")
    return load_run(named)


def _complain(path: str, error: VlmPromptError) -> None:
    output.say("warning", f"{error.message}; left out", "yellow")


def _told(tally: Tally, predictor: Predictor, sort_into: Path | None, out: Path | None) -> list[str]:
    """How it went, for people."""
    lines = []
    if predictor.rejection is not None:
        lines.append(f"known: {tally.pictures - tally.unknown:,}, unknown: {tally.unknown:,}")
    if sort_into is not None:
        lines.append(f"sorted into {sort_into}")
    if out is not None:
        lines.append(f"written to {out}")
    return lines


def _document(run: Run, predictor: Predictor, tally: Tally) -> dict[str, Any]:
    return {
        "run": run.path,
        "checkpoint": run.digest,
        "temperature": predictor.temperature,
        "rejection": public(predictor.rejection),
        "conformal": public(predictor.set_threshold),
        "pictures": tally.pictures,
        "unknown": tally.unknown,
        "classes": dict(tally.classes.most_common()),
        "unread": tally.unread,
        "reasons": [{"picture": path, "reason": reason} for path, reason in tally.reasons],
    }
