"""`vlmprompt explain`: pictures of where a trained run looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmprompt.cli.options import DeviceOption, JsonFlag, RootOption, RunsDirOption
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.config.limits import MOST_SEED
from vlmprompt.errors import IncompleteError, UsageError, did_you_mean
from vlmprompt.shown import several

WHICH = ("random", "mistakes")
MOST_IMAGES = 10_000


def register(app: typer.Typer) -> None:
    """Add `explain`."""
    app.command("explain")(explain)


def explain(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, or its name below --runs-dir.", show_default=False)
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGES]...", help="Image files, or folders of them; default: test images of the run's data."
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", metavar="INT", help="Test images; default: 8.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="INT", help="Of the choice of test images; default: 1.")
    ] = None,
    which: Annotated[
        str | None,
        typer.Option("--which", metavar="NAME", help="random, or mistakes: those taken for another class."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the pictures; default: RUN/explain.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", "-b", help="Where the weights of the run's backbone are now.", show_default=False),
    ] = None,
    as_json: JsonFlag = False,
    device: DeviceOption = "auto",
    root: RootOption = None,
    runs_dir: RunsDirOption = Path("runs"),
) -> None:
    """Draw where a trained run looks in images.

    What is drawn depends on the method: the patches that local prompts choose
    (gallop), the plans that match patches with prompts (dual_pt, plot), cosines
    of patches and class, and for every method which patches speak for the class
    by its gradient, beside zero-shot CLIP. A row each for the true class and
    the predicted one. What a method shows of what it has learned (bloom: its
    gates, layer by layer) is printed as a table.

    An image's class is known by the folder that it lies in, where that is
    called by the name of a class.
    """
    _settle(images, {"--n": n, "--seed": seed, "--which": which})
    if which is not None and which not in WHICH:
        raise UsageError(f"unknown choice of images {which!r} (--which)", hint=did_you_mean(which, WHICH))
    _bounded("--n", n, 1, MOST_IMAGES)
    _bounded("--seed", seed, 0, MOST_SEED)
    from vlmprompt.cli.names import finished_run, require_backbones
    from vlmprompt.config.device import require_device
    from vlmprompt.config.models import Runtime
    from vlmprompt.data.named_images import image_files

    require_device(device)
    require_backbones([(backbone, None)] if backbone else ())
    progress = CliProgress()
    run = finished_run(run, runs_dir, progress)
    files = image_files(images) if images else None
    from vlmprompt.explain.pictures import explain as draw
    from vlmprompt.training.runs import load_run

    runtime = Runtime(device=device, root=root)
    loaded = load_run(run)
    towers = None if backbone is None else loaded.load_backbone(runtime, spec=backbone)
    chosen: dict[str, Any] = {
        key: value for key, value in (("n", n), ("seed", seed), ("which", which)) if value is not None
    }
    found = draw(loaded, files, out=out, runtime=runtime, backbone=towers, progress=progress, **chosen)
    tables = found.content["tables"]
    for learned in (table for table in tables if table["by"] is None):
        progress.message(_told(learned, found.folder))
    content = {"folder": found.folder, **found.content, "failed": found.failed}
    shown = [part for table in tables if table["by"] is not None for part in _learned(table)]
    emit("explain", content, as_json=as_json, table=[_table(content), *shown], error=_incomplete(found.failed))


def _settle(images: list[Path] | None, choice: dict[str, Any]) -> None:
    """Refuse a choice of images beside images that are named."""
    idle = [flag for flag, value in choice.items() if value is not None]
    if images and idle:
        raise UsageError(
            f"{idle[0]} has no effect on images that are named: all of them are drawn", hint="leave one of them out"
        )


def _bounded(flag: str, value: int | None, least: int, most: int) -> None:
    """As an option's bounds these would fill the help page."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{flag} {value} is not allowed", hint=f"{least} to {most}")


def _incomplete(failed: tuple[str, ...]) -> IncompleteError | None:
    if not failed:
        return None
    more = f" (nor can {len(failed) - 1} more)" if len(failed) > 1 else ""
    return IncompleteError(f"an image cannot be shown{more}: {failed[0]}", hint="the pictures of the others are there")


def _table(content: Mapping[str, Any]) -> Table:
    """A row for each picture and figure; how much of it lies on the object where that is known."""
    rows = [
        (own["file"], own["kind"], image["true"], image["predicted"], f"{image['probability']:.3f}", _on_object(own))
        for image in content["images"]
        for own in image["pictures"]
    ]
    rows += [(figure["file"], "figure", None, None, "", "") for figure in content["figures"]]
    columns = ("picture", "shows", "true", "predicted", "probability", "on object")
    known = any(row[-1] for row in rows)
    shown = [row if known else row[:-1] for row in rows]
    return Table(columns[: len(columns) - (not known)], shown, title=str(content["folder"]))


def _learned(table: Mapping[str, Any]) -> list[Table | str]:
    """What the method shows of what it has learned, below an empty line."""
    rows = [[str(cell) for cell in row] for row in table["rows"]]
    return ["", Table(table["columns"], rows, title=table["title"]), table["caption"]]


def _told(learned: Mapping[str, Any], folder: Path) -> str:
    """Where a table of the run is, which can be long; or why it is empty."""
    rows = len(learned["rows"])
    where = f"{several(rows, 'row', 'rows')} in {folder / 'explain.json'}" if rows else learned["caption"]
    return f"{learned['title']}: {where}"


def _on_object(picture: Mapping[str, Any]) -> str:
    """How much of a picture lies on the object: of all its maps, or from the least to the most of them."""
    shares = [one["pointing"] for one in picture["maps"] if one["pointing"] is not None]
    if picture["pointing"] is not None:
        return f"{picture['pointing']:.3f}"
    return f"{min(shares):.3f} to {max(shares):.3f}" if shares else ""
