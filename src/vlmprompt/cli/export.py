"""`vlmprompt export`: a trained run for programs that know nothing of this one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli.names import finished_run, require_backbones
from vlmprompt.cli.options import JsonFlag, RootOption, RunsDirOption
from vlmprompt.cli.output import emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import InputError, UsageError
from vlmprompt.export.formats import (
    FORMATS,
    default_place,
    format_named,
    require_packages,
    script_beside,
    settled_place,
)
from vlmprompt.regular import named_path

if TYPE_CHECKING:
    from vlmprompt.export.work import Exported


def register(app: typer.Typer) -> None:
    """Add `export`."""
    app.command("export")(export)


def export(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Run folder or name; default: the newest run.", show_default=False),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="NAME",
            help="onnx: a file with the image tower, and a script; safetensors: class embeddings, for towers that you "
            "have; open_clip: a folder that open_clip loads.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file, or the folder of open_clip; default: named after the run, here.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images",
            metavar="PATH",
            help="Picture, or folder of pictures, to try the export on; may be repeated. Default: test images of the "
            "run.",
            show_default=False,
        ),
    ] = None,
    no_calibration: Annotated[
        bool, typer.Option("--no-calibration", help="Ignore the temperature in calibration.json.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an older export; other files stay.")] = False,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="Where the weights of the run's backbone are now; they must be those of the training.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
    root: RootOption = None,
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Export a trained run as ONNX, class embeddings or an open_clip model.

    Each knows its class names and how pictures are prepared. Before it is kept,
    its logits are compared with the run's own on real pictures. An ONNX file
    comes with a script that classifies pictures without vlmprompt and torch.
    """
    if to is None:
        raise UsageError("--to is missing", hint=f"one of {', '.join(FORMATS)}")
    kind = format_named(to)
    progress = CliProgress()
    run = finished_run(run, runs_dir, progress)
    require_packages(kind)
    require_backbones([(backbone, None)] if backbone else ())
    for path in images or ():
        if not path.exists():
            raise InputError(f"there is no {path}", hint="name pictures, or folders of pictures (--images)")
    out = default_place(kind, run) if out is None else out
    settled_place(kind, out, force=force)
    from vlmprompt.config.models import Runtime
    from vlmprompt.export.work import export_run
    from vlmprompt.training.runs import load_run

    runtime = Runtime(device="cpu", root=root, runs_dir=runs_dir)
    shares = {
        "calibrated": not no_calibration,
        "force": force,
        "backbone": backbone,
        "runtime": runtime,
        "progress": progress,
    }
    done = export_run(load_run(run), to, out, images=images or (), **shares)  # type: ignore[arg-type]
    emit("export", _document(run, done), as_json=as_json, table=_lines(done, out))


def _document(run: Path, done: Exported) -> dict[str, object]:
    return {
        "run": run,
        "to": done.to,
        "files": [str(file) for file in done.files],
        "tried_on": done.tried_on,
        "difference": done.difference,
        "temperature": done.temperature,
    }


def _lines(done: Exported, out: Path) -> list[str]:
    """For people: what was written, how it was tried, and what to do with it."""
    out = named_path(out)
    lines = [f"{done.to:11} {out}"]
    if done.temperature is not None:
        lines.append(f"calibrated  temperature {done.temperature:.4g}")
    lines.append(f"tried on    {done.tried_on}: logits as the run's, to {done.difference:.1e}")
    return [*lines, f"next        {_next_step(done, out)}"]


def _next_step(done: Exported, out: Path) -> str:
    if done.to == "onnx":
        script = script_beside(done.files[0])
        return shlex.join(["python", str(script if out.is_symlink() else out.parent / script.name), "PICTURE"])
    if done.to == "open_clip":
        return f"{out / 'README.md'} shows how it is used"
    return "logits = scale * features @ classes.T + bias, with the run's image tower; see docs/export.md"
