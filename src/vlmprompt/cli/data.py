"""`vlmprompt data list|check|show|sample`: what is there of the data sets, and what a run would draw from one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.options import JsonFlag, RootOption, WorkersOption
from vlmprompt.cli.output import Table, emit, warn
from vlmprompt.cli.progress import CliProgress
from vlmprompt.config.limits import MOST_SEED, MOST_SHOTS
from vlmprompt.errors import InputError, UsageError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.data.check import Report
    from vlmprompt.data.records import Dataset, Record

SHOWN = 5  # names of files in a report for people
SpecArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="Data set, such as coop:dtd or folder:photos.", show_default=False)
]
AcceptSplitFlag = Annotated[bool, typer.Option("--accept-split", help="Accept a split that is not the published one.")]
ProtocolOption = Annotated[
    str, typer.Option("--protocol", metavar="NAME", help="Data conventions: coop or gallop-code.")
]


def register(app: typer.Typer) -> None:
    """Add the group `data`."""
    data = typer.Typer(no_args_is_help=True, help="Look at data sets: what is there, what is wrong, what is drawn.")
    data.command("list")(list_benchmarks)
    data.command("check")(check)
    data.command("show")(show)
    data.command("sample")(sample)
    app.add_typer(data, name="data")


def list_benchmarks(root: RootOption = None, as_json: JsonFlag = False) -> None:
    """List the benchmark data sets, and what is there of each below --root.

    Nothing is read but split files: 'vlmprompt data check' looks for every image.
    """
    from vlmprompt.data.check import survey

    rows = survey(root)
    cells = [
        (
            row["name"],
            row["classes"],
            _numbers(row["images"]),
            ", ".join(row["lacks"]) if row["status"] == "incomplete" else row["status"],
        )
        for row in rows
    ]
    table = Table(("coop:", "classes", "train/val/test", "state"), cells)
    where = (root or Path()).absolute()
    more = f"\nlooked for below {where}\nwhere each is had: vlmprompt data show coop:NAME"
    emit("data list", {"root": where, "benchmarks": rows}, as_json=as_json, table=[table, more])


def _numbers(images: Mapping[str, int]) -> str:
    """Numbers of images: "2820/1128/1692", a split that a data set does not have as "-"."""
    return "/".join(str(images.get(split, "-")) for split in ("train", "val", "test"))


def check(
    data: Annotated[
        list[str] | None, typer.Argument(metavar="[DATA]...", help="Data sets; default: the benchmarks that are there.")
    ] = None,
    root: RootOption = None,
    accept_split: AcceptSplitFlag = False,
    quick: Annotated[bool, typer.Option("--quick", help="Look for the images, but do not open them.")] = False,
    workers: WorkersOption = 2,
    as_json: JsonFlag = False,
) -> None:
    """Look for everything that can be wrong with data sets: folders, split files, each image.

    Exit code 3 if anything is.
    """
    from vlmprompt.data.check import check as look
    from vlmprompt.data.check import survey

    specs = data or [row["spec"] for row in survey(root) if row["status"] != "absent"]
    if not specs:
        raise InputError(
            f"there is no benchmark data set below {(root or Path()).absolute()}",
            hint="name their parent folder with --root; 'vlmprompt data list' says what is looked for",
        )
    progress = CliProgress()
    reports = [
        look(spec, root, progress, accept_split=accept_split, decode=not quick, workers=workers) for spec in specs
    ]
    wrong = [report.spec for report in reports if report.status != "ok"]
    error = InputError(f"{len(wrong)} of {len(reports)} data sets have problems: {', '.join(wrong)}") if wrong else None
    document = {"reports": [report.public() for report in reports]}
    emit("data check", document, as_json=as_json, table=_check_page(reports), error=error)


def _check_page(reports: Sequence[Report]) -> list[Table | str]:
    columns = ("data set", "state", "expected", "found", "missing", "stray", "broken")
    rows = [
        (
            r.spec,
            r.status,
            _numbers(r.expected) if r.expected else "",
            _numbers(r.found) if r.found else "",
            len(r.missing),
            len(r.stray),
            len(r.unreadable) if r.decoded else "not opened",
        )
        for r in reports
    ]
    return [Table(columns, rows), *(line for report in reports for line in _details(report))]


def _details(report: Report) -> Iterator[str]:
    """What is wrong with one data set, and where it is had."""
    yield from (f"\n{report.spec}: {message}\n  {hint}" for message, hint in report.problems)
    named = [f"{path} ({reason})" for path, reason in report.unreadable]
    for what, files in (("missing", report.missing), ("in no split", report.stray), ("unreadable", named)):
        if files:
            more = f"\n  and {len(files) - SHOWN} more (--json lists all)" if len(files) > SHOWN else ""
            yield f"\n{report.spec}: {what}\n  " + "\n  ".join(files[:SHOWN]) + more
    yield from (f"\n{report.spec}: {note}" for note in report.notes)
    if report.missing and report.source:
        yield f"\n{report.spec} is had from {report.source}"


def show(
    data: SpecArgument,
    root: RootOption = None,
    accept_split: AcceptSplitFlag = False,
    protocol: ProtocolOption = "coop",
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Write a sheet of samples, as PNG.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a data set is: classes, numbers of images, template, where it is had.

    A benchmark is shown also where it is not there.
    """
    from vlmprompt.data.check import published_facts
    from vlmprompt.data.load import load_dataset

    facts = published_facts(data, protocol)
    dataset, problem = None, None
    try:
        dataset = load_dataset(
            data, root=root, accept_split=accept_split, protocol=protocol, need_images=sheet is not None
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
    emit("data show", content, as_json=as_json, table=_show_page(content))


def _loaded(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "spec": dataset.spec,
        "template": dataset.template,
        "class_names": dataset.class_names,
        "found": {split: len(records) for split, records in dataset.splits.items()},
        "digest": dataset.digest,
        "notes": dataset.notes,
    }


def _show_page(content: Mapping[str, Any]) -> list[Table | str]:
    names = content.get("class_names", ())
    shown = ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
    found, published = content.get("found"), content.get("images")
    rows = [
        ("title", content.get("title")),
        ("classes", shown or content.get("classes")),
        ("images", _numbers(found) if found else None),
        ("published", _numbers(published) if published else None),
        ("template", content["template"]),
        ("place", content.get("layout")),
        ("had from", content.get("source")),
        ("split file", content.get("split_file")),
        ("its source", content.get("split_source")),
        ("sheet", content.get("sheet")),
    ]
    page: list[Table | str] = [Table(("data set", content["spec"]), [row for row in rows if row[1]])]
    if content["problem"]:
        page.append(f"\nnot there: {content['problem']['message']}\n  {content['problem']['hint']}")
    return page


def _write_sheet(dataset: Dataset, file: Path) -> None:
    from vlmprompt.atomic import write_atomic
    from vlmprompt.data.sheet import sample_sheet

    if file.suffix.lower() != ".png":
        raise UsageError(f"--sheet {file} is no PNG file", hint=f"such as {file / 'sheet.png'}")
    write_atomic(file, sample_sheet(dataset))


def sample(
    data: SpecArgument,
    shots: Annotated[str, typer.Option("--shots", metavar="INT|all", help="Training images per class, or all.")] = "16",
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Seed of the sample.")] = 1,
    sampler: Annotated[
        str | None, typer.Option("--sampler", metavar="NAME", help="coop or gallop; default: the protocol's.")
    ] = None,
    protocol: ProtocolOption = "coop",
    root: RootOption = None,
    accept_split: AcceptSplitFlag = False,
    allow_fewer: Annotated[
        bool, typer.Option("--allow-fewer", help="Accept classes with fewer images than shots.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the images that a run would train on and choose by, in order.

    Read from the split file alone where there is one: the images need not be there.
    """
    from vlmprompt.data.fewshot import SAMPLER_OF, SAMPLERS, with_val
    from vlmprompt.data.fewshot import sample as draw
    from vlmprompt.data.load import load_dataset

    _require("protocol", protocol, SAMPLER_OF)
    sampler = sampler or SAMPLER_OF[protocol]
    _require("sampler", sampler, SAMPLERS)
    number = _shots(shots)
    dataset = load_dataset(data, root=root, accept_split=accept_split, protocol=protocol, need_images=False)
    drawn = draw(dataset, number, seed, allow_fewer=allow_fewer, sampler=sampler)
    split, val_source = with_val(dataset, drawn)
    content = {
        "spec": dataset.spec,
        "shots": number,
        "seed": seed,
        "sampler": sampler,
        "protocol": protocol,
        "val_source": val_source,
        "digest": split.digest,
        "notes": dataset.notes,
        "train": _rows(split.train, dataset),
        "val": _rows(split.val, dataset),
    }
    for doubt in (*dataset.warnings, *split.doubts):
        warn(doubt)
    emit("data sample", content, as_json=as_json, table=_sample_page(content))


def _require(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}", hint=did_you_mean(name, known))


def _shots(text: str) -> int | None:
    if text.lower() == "all":
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:11]) <= MOST_SHOTS):
        raise UsageError(f"--shots {text!r} is neither a number of images nor all", hint="such as --shots 16")
    return int(text)


def _rows(records: Sequence[Record], dataset: Dataset) -> list[dict[str, Any]]:
    return [{"path": r.id, "label": r.label, "class": dataset.class_names[r.label]} for r in records]


def _sample_page(content: Mapping[str, Any]) -> list[Table | str]:
    rows = [(part, row["label"], row["class"], row["path"]) for part in ("train", "val") for row in content[part]]
    numbers = f"{len(content['train'])} train and {len(content['val'])} val images"
    return [Table(("part", "label", "class", "path"), rows), f"\n{numbers}, SHA-256 of their ids {content['digest']}"]
