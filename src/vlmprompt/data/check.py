"""What is there of a data set and what is wrong with it: everything at once, where reading stops at the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlmprompt.data.coop.facts import COPIES, SPLITS_SOURCE, Benchmark, benchmark, benchmarks
from vlmprompt.data.coop.listing import published_split, read_listing
from vlmprompt.data.coop.place import Place
from vlmprompt.data.coop.reader import compare, images_folder
from vlmprompt.data.images import read_image
from vlmprompt.data.levels import GUESSED, WARNING
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress

Status = Literal["ok", "problems", "absent"]


@dataclass
class Report:
    """The state of one data set.

    Attributes:
        expected: published numbers of images by split; empty where none are published.
        found: those that are there.
        problems: what is wrong, each with its next step.
        missing: images of the split that are not there.
        stray: files that are there but in no split.
        unreadable: (image, reason).
        decoded: whether the images were opened.
    """

    spec: str
    source: str = ""
    status: Status = "ok"
    expected: Mapping[str, int] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    split: Mapping[str, object] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    decoded: bool = False

    def problem(self, error: InputError) -> None:
        """Add an error that stopped the reading."""
        self.problems.append((error.message, error.hint or ""))

    def public(self) -> dict[str, Any]:
        """The report as JSON documents show it."""
        return vars(self) | {
            "problems": [{"message": message, "hint": hint} for message, hint in self.problems],
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
        }


def survey(root: Path | None) -> list[dict[str, Any]]:
    """Every benchmark, and what is there of it by the looks of it: no image is looked for, no list is read."""
    return [_surveyed(Place.below(root, facts)) for facts in benchmarks().values()]


def _surveyed(place: Place) -> dict[str, Any]:
    facts = place.benchmark
    lacks = _split_state(place)
    base = place.find_images(facts.within) if facts.within else _first_images(place)
    if base is None:
        lacks.append("no images")
    return {
        "name": facts.name,
        "spec": facts.spec,
        "title": facts.title,
        "classes": facts.classes,
        "images": facts.images,
        "template": facts.template,
        "source": facts.source,
        "folders": [str(folder) for folder in place.folders],
        "status": "absent" if not place.folders else "incomplete" if lacks else "there",
        "lacks": lacks,
    }


def _split_state(place: Place) -> list[str]:
    """What is wrong with the files of the split, by the looks of them."""
    facts = place.benchmark
    if facts.lists:
        files = [facts.lists.classes, *facts.lists.splits.values()]
        return [f"no {file}" for file in files if place.find(file) is None]
    if facts.split is None:
        return []
    found = place.find(facts.split.file)
    if found is None:
        return ["no split file"]
    return [] if published_split(facts.split, found) else ["not the published split file"]


def _first_images(place: Place) -> Path | None:
    """The image folder, as far as one can know without reading the split."""
    named = [name for name in place.benchmark.image_folders if name != "."]
    found = [folder / name for folder in place.folders for name in named if (folder / name).is_dir()]
    return found[0] if found else place.folders[0] if place.folders and "." in place.benchmark.image_folders else None


def published_facts(spec: str, protocol: str) -> dict[str, Any] | None:
    """What is known of a benchmark without looking for it; None for any other data set.

    Raises:
        UsageError: there is no benchmark of this name.
    """
    facts = _facts(spec)
    if facts is None:
        return None
    facts = facts.under(protocol)
    known = {key: getattr(facts, key) for key in ("name", "spec", "title", "classes", "images", "template", "source")}
    if facts.archive:
        known["copy"] = f"{facts.archive} of https://huggingface.co/{COPIES}"
    files = [facts.split.file] if facts.split else list(facts.lists.splits.values()) if facts.lists else []
    known |= {"layout": f"{facts.layout}/", "split_file": ", ".join(files)}
    return known | ({"split_source": SPLITS_SOURCE, "sha256": facts.split.sha256} if facts.split else {})


def check(
    spec: str,
    root: Path | None,
    progress: Progress,
    *,
    accept_split: bool = False,
    decode: bool = True,
    workers: int = 0,
) -> Report:
    """Look for everything that can be wrong with a data set.

    Args:
        spec: as for `load_dataset`.
        decode: also open every image.
        workers: threads that open images.

    Raises:
        UsageError: there is no such data set.
    """
    facts = _facts(spec)
    report = Report(spec) if facts is None else Report(facts.spec, facts.had_from, expected=facts.images)
    records: Sequence[Record] = ()
    try:
        if facts is None or facts.class_folders:
            records = _check_loaded(report, root)
        else:
            records = _check_listed(report, Place.below(root, facts), accept_split)
    except InputError as error:
        report.problem(error)
    if decode and records:
        _open_all(report, records, workers, progress)
    absent = facts is not None and not Place.below(root, facts).folders
    report.status = "absent" if absent else "problems" if _is_wrong(report) else "ok"
    return report


def _facts(spec: str) -> Benchmark | None:
    scheme, colon, name = spec.partition(":")
    if scheme == "coop":
        return benchmark(name)
    return benchmarks().get(spec) if not colon else None


def _check_loaded(report: Report, root: Path | None) -> list[Record]:
    """Data sets that are their own split: what reading finds is all there is."""
    dataset = load_dataset(report.spec, root=root)
    report.found = {split: len(records) for split, records in dataset.splits.items()}
    if report.expected and report.found != report.expected:
        report.problems.append(("the number of images is not the published one", f"it is had from {report.source}"))
    report.notes += dataset.warnings if not report.expected else []
    return [record for records in dataset.splits.values() for record in records]


def _check_listed(report: Report, place: Place, accept_split: bool) -> list[Record]:
    """Data sets with a split file: everything in it, and what lies beside."""
    place.require_folder()
    listing, report.split = read_listing(place, accept_split)
    if report.split["verified"] == "accepted":
        report.notes.append("its split is not the published one")
    base = images_folder(place, listing)
    report.missing, report.stray = compare(place, listing, base)
    absent = set(report.missing)
    report.found = {split: sum(path not in absent for path, _ in rows) for split, rows in listing.splits.items()}
    rows = dict.fromkeys(path for part in listing.splits.values() for path, _ in part if path not in absent)
    return [Record(path, 0, base / path) for path in rows]


def _is_wrong(report: Report) -> bool:
    return any((report.problems, report.missing, report.stray, report.unreadable))


def _open_all(report: Report, records: Sequence[Record], workers: int, progress: Progress) -> None:
    """Images that cannot be decoded, and why; and what was doubtful in those that can."""
    guessed = 0
    with (
        progress.task(f"opening images of {report.spec}", len(records), unit="img") as task,
        ThreadPoolExecutor(max(1, workers)) as pool,
    ):
        for record, (reason, doubtful) in zip(records, pool.map(_opened, records), strict=True):
            if reason:
                report.unreadable.append((record.id, reason))
            guessed += doubtful
            task.advance()
    if guessed:
        report.notes.append(f"{WARNING} ({guessed} of {len(records)} images)")
    report.decoded = True


def _opened(record: Record) -> tuple[str, bool]:
    """Why an image cannot be decoded, else an empty text; and whether its range was guessed."""
    try:
        return "", GUESSED in read_image(record).info
    except InputError as error:
        return error.message.rpartition(": ")[2], False
