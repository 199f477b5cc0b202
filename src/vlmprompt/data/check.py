"""What is there of a data set and what is wrong with it: everything at once, where reading stops at the first."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vlmprompt.data.coop.listing import read_listing
from vlmprompt.data.coop.place import Place
from vlmprompt.data.coop.reader import compare, images_folder
from vlmprompt.data.copies import Copies, Parts, Spot, find_copies, in_words, overlap_error, within_words
from vlmprompt.data.images import read_image
from vlmprompt.data.levels import GUESSED, WARNING
from vlmprompt.data.load import load_dataset
from vlmprompt.data.near import Look, look_of, pairs_alike
from vlmprompt.data.records import Record
from vlmprompt.data.survey import facts_of
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
        copies: images that are in several places.
        near: pairs of images that look alike, if that was asked for.
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
    copies: list[Copies] = field(default_factory=list)
    near: list[Copies] = field(default_factory=list)
    decoded: bool = False

    def problem(self, error: InputError) -> None:
        """Add an error that stopped the reading."""
        self.problems.append((error.message, error.hint or ""))

    def public(self) -> dict[str, Any]:
        """The report as JSON documents show it."""
        return vars(self) | {
            "problems": [{"message": message, "hint": hint} for message, hint in self.problems],
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "copies": [copies.public() for copies in self.copies],
            "near": [copies.public() for copies in self.near],
        }


def check(
    spec: str,
    root: Path | None,
    progress: Progress,
    *,
    accept_split: bool = False,
    allow_overlap: bool = False,
    decode: bool = True,
    near: bool = False,
    workers: int = 0,
    **reading: Any,
) -> Report:
    """Look for everything that can be wrong with a data set.

    Args:
        spec: as for `load_dataset`.
        allow_overlap: images in several splits are no problem.
        decode: also open every image, and compare their bytes.
        near: also look for images that look alike, see `data.near`; opens every image.
        workers: threads that open images.
        reading: further arguments of `load_dataset`, for data sets whose split is not published.

    Raises:
        UsageError: there is no such data set.
    """
    facts = facts_of(spec)
    report = Report(spec) if facts is None else Report(facts.spec, facts.had_from, expected=facts.images)
    parts: Parts = {}
    try:
        if facts is None or facts.class_folders:
            parts = _check_loaded(report, root, reading)
        else:
            parts = _check_listed(report, Place.below(root, facts), accept_split)
    except InputError as error:
        report.problem(error)
    published = facts is not None and report.split.get("verified", "published") != "accepted"
    report.copies = find_copies(parts, read=decode)
    _judge_copies(report, allowed=allow_overlap or published)
    if (decode or near) and parts:
        _open_all(report, parts, near, workers, progress)
    absent = facts is not None and not Place.below(root, facts).folders
    report.status = "absent" if absent else "problems" if _is_wrong(report) else "ok"
    return report


def _check_loaded(report: Report, root: Path | None, reading: Mapping[str, Any]) -> Parts:
    """Data sets that are their own split: what reading finds is all there is."""
    dataset = load_dataset(report.spec, root=root, **reading)
    report.found = {split: len(records) for split, records in dataset.splits.items()}
    if report.expected and report.found != report.expected:
        report.problems.append(("the number of images is not the published one", f"it is had from {report.source}"))
    report.notes += dataset.warnings if not report.expected else []
    return dataset.splits


def _check_listed(report: Report, place: Place, accept_split: bool) -> Parts:
    """Data sets with a split file: everything in it, and what lies beside."""
    place.require_folder()
    listing, report.split = read_listing(place, accept_split)
    if report.split["verified"] == "accepted":
        report.notes.append("its split is not the published one")
    base = images_folder(place, listing)
    report.missing, report.stray = compare(place, listing, base)
    absent = set(report.missing)
    there = {split: [path for path, _ in rows if path not in absent] for split, rows in listing.splits.items()}
    report.found = {split: len(paths) for split, paths in there.items()}
    return {split: [Record(path, 0, base / path) for path in paths] for split, paths in there.items()}


def _judge_copies(report: Report, *, allowed: bool) -> None:
    """Images in several places: across splits a problem, unless that is accepted or published; else worth a note."""
    across = [copies for copies in report.copies if copies.across]
    within = [copies for copies in report.copies if not copies.across]
    if across and allowed:
        report.notes.append(in_words(across, "in more than one split"))
    elif across:
        report.problem(overlap_error(across, report.spec))
    report.notes += within_words(within, "repeated within a split")


def _is_wrong(report: Report) -> bool:
    return any((report.problems, report.missing, report.stray, report.unreadable))


def _open_all(report: Report, parts: Parts, near: bool, workers: int, progress: Progress) -> None:
    """Open every image once: those that cannot be, those whose range was guessed, and those that look alike."""
    places = list({record.id: (split, record) for split, records in parts.items() for record in records}.values())
    opened: list[tuple[Spot, Look]] = []
    guessed = 0
    with (
        progress.task(f"opening images of {report.spec}", len(places), unit="img") as task,
        ThreadPoolExecutor(max(1, workers)) as pool,
    ):
        for place, found in zip(places, pool.map(partial(_opened, near=near), places), strict=True):
            if isinstance(found, str):
                report.unreadable.append((place[1].id, found))
            else:
                guessed += found.guessed
                opened += [(place, found.look)] if found.look is not None else []
            task.advance()
    if guessed:
        report.notes.append(f"{WARNING} ({guessed} of {len(places)} images)")
    report.decoded = True
    same = {frozenset((id(a), id(b))) for copies in report.copies for _, a in copies.places for _, b in copies.places}
    alike = [(opened[i][0], opened[k][0]) for i, k in pairs_alike([look for _, look in opened])]
    report.near = [Copies(pair) for pair in alike if frozenset((id(pair[0][1]), id(pair[1][1]))) not in same]


class _Opened(NamedTuple):
    """What a decoded image showed: whether the range of its levels was guessed; its look, if that is asked for."""

    guessed: bool
    look: Look | None


def _opened(place: Spot, near: bool) -> _Opened | str:
    """What an image shows, or why it cannot be read."""
    try:
        image = read_image(place[1])
    except InputError as error:
        return error.message.rpartition(": ")[2]
    return _Opened(GUESSED in image.info, look_of(image) if near else None)
