"""`vlmprompt data list|check|show|sample`: what is there of the data sets, and what a run would draw from one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.data_pages import check_page, numbers, show_page
from vlmprompt.cli.data_sample import sample
from vlmprompt.cli.options import (
    AcceptSplitFlag,
    AllowOutsideFlag,
    ClassNamesOption,
    JsonFlag,
    ProtocolOption,
    RootOption,
    SpecArgument,
    SplitSeedOption,
    WorkersOption,
)
from vlmprompt.cli.output import Table, emit, warn
from vlmprompt.cli.progress import CliProgress
from vlmprompt.config.limits import WORKERS
from vlmprompt.errors import InputError, UsageError

if TYPE_CHECKING:
    from vlmprompt.data.records import Dataset


def register(app: typer.Typer) -> None:
    """Add the group `data`."""
    data = typer.Typer(no_args_is_help=True, help="Inspect data sets: contents, problems, few-shot samples.")
    data.command("list")(list_benchmarks)
    data.command("check")(check)
    data.command("show")(show)
    data.command("sample")(sample)
    app.add_typer(data, name="data")


def list_benchmarks(root: RootOption = None, as_json: JsonFlag = False) -> None:
    """List the benchmark data sets, and what is there of each below --root.

    Nothing is read but split files: 'vlmprompt data check' looks for every image.
    """
    from vlmprompt.data.survey import survey

    rows = survey(root)
    cells = [
        (
            row["name"],
            row["classes"],
            numbers(row["images"]),
            ", ".join(row["lacks"]) if row["status"] == "incomplete" else row["status"],
        )
        for row in rows
    ]
    table = Table(("coop:", "classes", "train/val/test", "state"), cells)
    where = (root or Path()).absolute()
    more = f"\nlooked for below {where}\nwhere each is had: vlmprompt data show coop:NAME"
    emit("data list", {"root": where, "benchmarks": rows}, as_json=as_json, table=[table, more])


def check(
    data: Annotated[
        list[str] | None, typer.Argument(metavar="[DATA]...", help="Data sets; default: the benchmarks that are there.")
    ] = None,
    root: RootOption = None,
    accept_split: AcceptSplitFlag = False,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Images in more than one split are no problem.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Look for the images, but do not open them.")] = False,
    near: Annotated[bool, typer.Option("--near", help="Also find images that look alike; a suspicion only.")] = False,
    class_names: ClassNamesOption = None,
    split_seed: SplitSeedOption = 1,
    allow_outside: AllowOutsideFlag = False,
    workers: WorkersOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Look for everything that can be wrong with data sets: folders, split files, each image, copies of images.

    Exit code 3 if anything is. Images that only look alike (--near) are listed,
    they are no error.
    """
    from vlmprompt.data.check import check as look
    from vlmprompt.data.survey import survey

    specs = data or [row["spec"] for row in survey(root) if row["status"] != "absent"]
    if not specs:
        raise InputError(
            f"there is no benchmark data set below {(root or Path()).absolute()}",
            hint="name their parent folder with --root; 'vlmprompt data list' says what is looked for",
        )
    progress = CliProgress()
    looked = partial(
        look,
        accept_split=accept_split,
        allow_overlap=allow_overlap,
        decode=not quick,
        near=near,
        workers=WORKERS if workers is None else workers,
        class_names_file=class_names,
        split_seed=split_seed,
        allow_outside=allow_outside,
    )
    reports = [looked(spec, root, progress) for spec in specs]
    wrong = [report.spec for report in reports if report.status != "ok"]
    error = InputError(f"{len(wrong)} of {len(reports)} data sets have problems: {', '.join(wrong)}") if wrong else None
    document = {"reports": [report.public() for report in reports]}
    emit("data check", document, as_json=as_json, table=check_page(reports), error=error)


def show(
    data: SpecArgument,
    root: RootOption = None,
    accept_split: AcceptSplitFlag = False,
    protocol: ProtocolOption = "coop",
    exif: Annotated[
        bool, typer.Option("--exif/--no-exif", help="Turn your own pictures by their EXIF orientation.")
    ] = True,
    class_names: ClassNamesOption = None,
    split_seed: SplitSeedOption = 1,
    allow_outside: AllowOutsideFlag = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Write a sheet of samples, as PNG.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show the images of every class.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a data set is: classes and their images, template, where it is had.

    A benchmark is shown also where it is not there.
    """
    from vlmprompt.data.load import load_dataset
    from vlmprompt.data.survey import published_facts

    facts = published_facts(data, protocol)
    dataset, problem = None, None
    try:
        dataset = load_dataset(
            data,
            root=root,
            class_names_file=class_names,
            split_seed=split_seed,
            accept_split=accept_split,
            protocol=protocol,
            need_images=sheet is not None,
            exif=exif,
            allow_outside=allow_outside,
        )
    except InputError as error:
        if facts is None or sheet is not None:
            raise
        problem = error
    content = (facts or {}) | ({} if dataset is None else _loaded(dataset))
    content |= {"problem": None if problem is None else {"message": problem.message, "hint": problem.hint}}
    if sheet is not None and dataset is not None:
        _write_sheet(dataset, sheet)
        content["sheet"] = sheet
    for doubt in () if dataset is None else dataset.warnings:
        warn(doubt)
    emit("data show", content, as_json=as_json, table=show_page(content, everything))


def _loaded(dataset: Dataset) -> dict[str, Any]:
    from vlmprompt.data.counts import imbalance, per_class, split_origin

    return {
        "name": dataset.name,
        "spec": dataset.spec,
        "template": dataset.template,
        "class_names": dataset.class_names,
        "found": {split: len(records) for split, records in dataset.splits.items()},
        "split": split_origin(dataset),
        "per_class": per_class(dataset),
        "imbalance": imbalance(dataset),
        "digest": dataset.digest,
        "notes": dataset.notes,
    }


def _write_sheet(dataset: Dataset, file: Path) -> None:
    from vlmprompt.atomic import write_atomic
    from vlmprompt.data.sheet import sample_sheet

    if file.suffix.lower() != ".png":
        raise UsageError(f"--sheet {file} is no PNG file", hint=f"such as {file / 'sheet.png'}")
    hint = "free space or change the permissions there, or name another file with --sheet"
    write_atomic(file, sample_sheet(dataset), hint=hint)
