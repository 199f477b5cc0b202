"""What people see of `vlmprompt data`: tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlmprompt.cli.output import Table

if TYPE_CHECKING:
    from vlmprompt.data.check import Report

SHOWN = 5  # names of files in a report
CLASSES_SHOWN = 20
SPLITS = "train/val/test"  # what `numbers` stand for


def numbers(images: Mapping[str, int]) -> str:
    """Numbers of images: "2820/1128/1692", a split that a data set does not have as "-"."""
    return "/".join(str(images.get(split, "-")) for split in ("train", "val", "test"))


def check_page(reports: Sequence[Report]) -> list[Table | str]:
    """A line a data set, and below what is wrong with each."""
    published = any(r.expected for r in reports)  # of other data nothing is expected
    columns = ("data set", "state", *(("expected",) if published else ()), "found", "missing", "stray", "broken")
    rows = [
        (
            r.spec,
            r.status,
            *((numbers(r.expected) if r.expected else "",) if published else ()),
            numbers(r.found) if r.found else "",
            len(r.missing),
            len(r.stray),
            len(r.unreadable) if r.decoded else "not opened",
        )
        for r in reports
    ]
    what = f"{'expected and found' if published else 'found'}: images in {SPLITS}"
    return [Table(columns, rows), what, *(line for report in reports for line in _details(report))]


def _details(report: Report) -> Iterator[str]:
    """What is wrong with one data set, and where it is had."""
    yield from (f"\n{report.spec}: {message}\n  {hint}" for message, hint in report.problems)
    named = [f"{path} ({reason})" for path, reason in report.unreadable]
    copies, near = ([str(found) for found in group] for group in (report.copies, report.near))
    for what, files in (
        ("missing", report.missing),
        ("in no split", report.stray),
        ("unreadable", named),
        ("the same image", copies),
        ("look alike", near),
    ):
        if files:
            more = f"\n  and {len(files) - SHOWN} more (--json lists all)" if len(files) > SHOWN else ""
            yield f"\n{report.spec}: {what}\n  " + "\n  ".join(files[:SHOWN]) + more
    yield from (f"\n{report.spec}: {note}" for note in report.notes)
    if report.missing and report.source:
        yield f"\n{report.spec} is had from {report.source}"


def show_page(content: Mapping[str, Any], everything: bool) -> list[Table | str]:
    """What a data set is.

    Args:
        everything: every class with its images, not the first ones alone.
    """
    names = content.get("class_names", ())
    shown = ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
    found, published = content.get("found"), content.get("images")
    rows = [
        ("title", content.get("title")),
        ("classes", shown or content.get("classes")),
        ("images", f"{numbers(found)} in {SPLITS}" if found else None),
        ("published", f"{numbers(published)} in {SPLITS}" if published else None),
        ("split", content.get("split")),
        ("imbalance", _imbalance(content.get("imbalance", {}))),
        ("template", content["template"]),
        ("place", content.get("layout")),
        ("had from", content.get("source")),
        ("split file", content.get("split_file")),
        ("its source", content.get("split_source")),
        ("sheet", content.get("sheet")),
    ]
    page: list[Table | str] = [Table(("data set", content["spec"]), [row for row in rows if row[1]])]
    if content.get("per_class"):
        page += ["", *_class_table(content["per_class"], tuple(content["found"]), everything)]
    if content["problem"]:
        page.append(f"\nnot there: {content['problem']['message']}\n  {content['problem']['hint']}")
    return page


def _imbalance(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each split that is not even: the smallest and the largest class."""
    return "; ".join(
        f"{split} {part['fewest']} ({part['smallest']}) to {part['most']} ({part['largest']}) a class"
        for split, part in found.items()
        if part["fewest"] < part["most"]
    )


def _class_table(rows: Sequence[Mapping[str, Any]], splits: Sequence[str], everything: bool) -> list[Table | str]:
    """Images of each class by split; without `everything` of the first ones."""
    shown = rows if everything or len(rows) <= CLASSES_SHOWN else rows[:CLASSES_SHOWN]
    table = Table(("class", *splits), [(row["class"], *(row[split] for split in splits)) for row in shown])
    more = [] if len(shown) == len(rows) else [f"and {len(rows) - len(shown)} more classes (--all shows them)"]
    return [table, *more]


def sample_page(content: Mapping[str, Any]) -> list[Table | str]:
    """A line an image, and how many there are."""
    rows = [(part, row["label"], row["class"], row["path"]) for part in ("train", "val") for row in content[part]]
    numbers = f"{len(content['train'])} train and {len(content['val'])} val images"
    return [Table(("part", "label", "class", "path"), rows), f"\n{numbers}, SHA-256 of their ids {content['digest']}"]
