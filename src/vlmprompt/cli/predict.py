"""`vlmprompt predict`: what pictures show, by a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vlmprompt.cli import output
from vlmprompt.cli.options import BackboneOption, DeviceOption, JsonFlag, RootOption, RunsDirOption
from vlmprompt.cli.predict_words import inputs_of, parted, require_place
from vlmprompt.cli.predicted import Target, public
from vlmprompt.cli.progress import CliProgress
from vlmprompt.config.limits import MOST_IMAGES, MOST_WORKERS
from vlmprompt.errors import UsageError, VlmPromptError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.predict.predictor import Predictor
    from vlmprompt.predict.sorting import How
    from vlmprompt.predict.work import Tally
    from vlmprompt.training.runs import Run

LINKS = ("hard", "symbolic")
_ASKED = "What is asked beside the class"
_WRITTEN = "What becomes of it"
_WHERE = "Where it runs"


def register(app: typer.Typer) -> None:
    """Add `predict`."""
    app.command("predict")(predict)


def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] IMAGE",
            help="A run (default: the newest); then pictures, folders, patterns, or - for a list of paths on stdin.",
            show_default=False,
        ),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes of a picture to show, the likeliest first.")] = 3,
    no_calibration: Annotated[
        bool, typer.Option("--no-calibration", help="Leave aside the temperature of calibration.json.")
    ] = False,
    reject: Annotated[
        float | None,
        typer.Option(
            "--reject",
            metavar="SHARE",
            help="Tell known from unknown, keeping this share of the run's own images, such as 0.95.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option("--score", help="By which score: mcm (default), gl-mcm, energy, ...", rich_help_panel=_ASKED),
    ] = None,
    score_set: Annotated[
        list[str] | None,
        typer.Option(
            "--score-set",
            metavar="NAME.OPTION=VALUE",
            help="One option of a plugin's score; may be repeated.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(
            "--conformal",
            metavar="SHARE",
            help="Sets of classes, of which this share may miss the true one, such as 0.1.",
            rich_help_panel=_ASKED,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="table, csv or jsonl; of --out by its name.", rich_help_panel=_WRITTEN
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it into this file, whole or not.", rich_help_panel=_WRITTEN)
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            "--sort-into",
            metavar="DIR",
            help="Copy each picture into a folder of its class there; rejected ones into unknown.",
            rich_help_panel=_WRITTEN,
        ),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(
            "--link", metavar="KIND", help="Link in place of copying: hard or symbolic.", rich_help_panel=_WRITTEN
        ),
    ] = None,
    as_json: JsonFlag = False,
    backbone: BackboneOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, max=MOST_IMAGES, help="Pictures a step.", rich_help_panel=_WHERE),
    ] = None,
    device: DeviceOption = "auto",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            max=MOST_WORKERS,
            help="Threads that read pictures ahead; 0 reads when it is time.",
            rich_help_panel=_WHERE,
        ),
    ] = 2,
    root: RootOption = None,
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Say what pictures show, by a trained run.

    Folders are searched for images at any depth. Pictures that cannot be read
    are named and left out; the exit code is 5 then.

      vlmprompt predict photos/
      vlmprompt predict runs/mine 'photos/*.jpg' --reject 0.95 --sort-into sorted
      find . -name '*.png' | vlmprompt predict runs/mine - --format jsonl
    """
    _require_together(score=score, reject=reject, link=link, sort_into=sort_into)
    asked: dict[str, Any] = {"reject": reject, "conformal": conformal, "calibrated": not no_calibration}
    asked |= {} if score is None else {"score": score}
    _require_asked(asked)
    if score_set:
        asked["score_options"] = _score_options(score_set, asked.get("score"))
    target = Target.of(form, out, as_json=as_json)
    named, words = parted(words, runs_dir)
    require_place(named, runs_dir, device, backbone)
    inputs = inputs_of(words, sort_into, as_json=as_json)
    total = inputs.count()
    target.require(total)
    from vlmprompt.config.models import Runtime
    from vlmprompt.predict.sorting import Sorter
    from vlmprompt.predict.work import predict_all
    from vlmprompt.training.predicting import Wishes, predictor_of
    from vlmprompt.training.runs import load_run, newest_run

    progress = CliProgress(bars=target.bars(total))
    if named is None:
        named = newest_run(runs_dir)
        progress.message(f"newest run: {named}")
    run = load_run(named)
    runtime = Runtime(device=device, workers=workers, root=root, runs_dir=runs_dir)
    shares: dict[str, Any] = {"spec": backbone, "batch_size": batch_size, "shown": top, "progress": progress}
    predictor = predictor_of(run, Wishes(**asked), runtime, **shares)
    sorter = None if sort_into is None else Sorter(sort_into, predictor.class_names, cast("How", link or "copy"))
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
    for line in _told(tally, predictor, sort_into, out):
        progress.message(line)
    data = _document(run, predictor, tally) | {"out": out, "sorted_into": sort_into}
    data |= {"predictions": target.rows} if target.form == "document" else {}
    output.emit("predict", data, as_json=as_json, error=tally.failure)


def _require_together(**given: object) -> None:
    """Refuse an option that another one gives its meaning, without that."""
    for option, other in (("score", "reject"), ("link", "sort_into")):
        if given[option] is not None and given[other] is None:
            names = [f"--{name.replace('_', '-')}" for name in (option, other)]
            raise UsageError(f"{names[0]} has no effect without {names[1]}", hint=f"add {names[1]}, or leave it out")
    if given["link"] is not None and given["link"] not in LINKS:
        raise UsageError(f"unknown kind of link {given['link']!r}", hint=did_you_mean(str(given["link"]), LINKS))


def _require_asked(asked: dict[str, Any]) -> None:
    """Refuse shares and scores that there are not."""
    from vlmprompt.predict.rejection import require_alpha, require_keep, require_score

    if "score" in asked:
        require_score(asked["score"])
    if asked["reject"] is not None:
        require_keep(asked["reject"])
    if asked["conformal"] is not None:
        require_alpha(asked["conformal"])


def _score_options(assignments: list[str], score: str | None) -> dict[str, dict[str, Any]]:
    """What --score-set says of the score that is asked for. Raises: UsageError."""
    from vlmprompt.methods.score_config import read_score_settings

    found = read_score_settings(assignments)
    for name in found:
        if name != score:
            raise UsageError(f"--score-set {name} has no effect on this score", hint=f"add --score {name}")
    return found


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
