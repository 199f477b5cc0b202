"""Test images that a run took for something else and was sure of, and those that it was least sure of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from vlmprompt.config.models import RunConfig
from vlmprompt.data.configured import load_run_dataset
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import VlmPromptError
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Part, Picture, Pictures, Section, Text
from vlmprompt.report.thumbnails import SIDE, thumbnail
from vlmprompt.results.details import Details

MOST = 24  # images of each kind, of one run
MOST_RUNS = 4
MAIN_SUITE = "accuracy"
_OFFLINE = "HF_HUB_OFFLINE"
_INTRO = (
    "Mistakes that the run was surest of, and the images that it was least sure of, right or wrong. "
    "Pictures are those that the data set holds now."
)
Say = Callable[[Details, int], tuple[str, ...]]


def section(runs: Sequence[ReportRun]) -> Section | None:
    """Thumbnails of one cell of each run: its accuracy on its own test images, or else the first cell with details."""
    chosen = [(run, details) for run in runs if not run.reference and (details := _cell(run)) is not None]
    if not chosen:
        return None
    sets = _DataSets()
    parts = [part for run, details in chosen[:MOST_RUNS] for part in _parts(run, details, sets, len(chosen) > 1)]
    more = len(chosen) - MOST_RUNS
    if more > 0:
        parts.append(Text(f"Images of {more} more runs are left out; name fewer runs to see theirs."))
    return Section("images", "Images", _INTRO, tuple(parts))


def surest_mistakes(details: Details) -> list[int]:
    """Places of the images that were told wrong, the most confident first; of equal ones in the order of the split."""
    wrong = np.flatnonzero(~details.correct)
    return [int(place) for place in wrong[np.argsort(-details.confidence[wrong], kind="stable")]]


def least_certain(details: Details) -> list[int]:
    """Places of all images, the smallest largest probability first."""
    return [int(place) for place in np.argsort(details.confidence, kind="stable")]


class _DataSets:
    """Data sets of runs, each read once; of one that cannot be read, why."""

    def __init__(self) -> None:
        self._known: dict[str, Dataset | str] = {}

    def of(self, run: ReportRun, config: RunConfig) -> Dataset | str:
        what = {"data", "class_names", "split_seed", "accept_split", "protocol", "exif", "allow_outside", "aliases"}
        key = config.model_dump_json(include=what)
        if key not in self._known:
            try:
                with _offline():
                    self._known[key] = load_run_dataset(config, run.root)
            except VlmPromptError as error:
                self._known[key] = error.told
        return self._known[key]


@contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched for a page: the hub's package reads this variable when it is imported, as it is within."""
    before = os.environ.get(_OFFLINE)
    os.environ[_OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OFFLINE]
        else:
            os.environ[_OFFLINE] = before


def _cell(run: ReportRun) -> Details | None:
    """The details that are shown of a run: of its own data, where there is a choice of the suite `accuracy`."""
    if run.info is None:
        return None
    own = run.info.config.data
    keys = {row.key: row.suite for row in run.rows if row.value is not None}
    for key in sorted(keys, key=lambda key: keys[key] != MAIN_SUITE):
        found = run.details.get(key)
        if found is not None and found.kind == "classification" and found.dataset == own and len(found):
            return found
    return None


def _parts(run: ReportRun, details: Details, sets: _DataSets, several: bool) -> Iterator[Part]:
    assert run.info is not None
    name = f", {run.name}" if several else ""
    dataset = sets.of(run, run.info.config)
    if isinstance(dataset, str):
        yield Text(f"The images of {run.name} cannot be shown: {dataset}.")
        return
    records = {record.id: record for record in dataset.splits.get("test", ())}
    mistakes, doubtful = surest_mistakes(details), least_certain(details)
    if not mistakes:
        yield Text(f"None of {len(details):,} test images was told wrong{name and ' by ' + run.name}.")
    where = f"test images ({details.suite}, {details.cell}"
    where += f", temperature {details.temperature:.4g})" if details.temperature is not None else ")"
    kinds: list[tuple[str, list[int], str, Say]] = [
        ("Most confident mistakes", mistakes, f"{len(mistakes):,} wrong of {len(details):,} {where}", _mistaken),
        ("Least certain images", doubtful, f"{len(details):,} {where}", _uncertain),
    ]
    for title, places, what, say in kinds:
        shown = places[:MOST]
        pictures = [picture for place in shown if (picture := _picture(details, place, records, dataset, say))]
        lost = len(shown) - len(pictures)
        caption = f"{len(pictures)} of {what}."
        caption += f" {lost} more are not shown: they are gone, or changed, since they were measured." if lost else ""
        if shown:
            yield Pictures(f"{title}{name}", tuple(pictures), caption)


def _picture(details: Details, place: int, records: dict[str, Record], dataset: Dataset, say: Say) -> Picture | None:
    """One image, if it still is in the data set, of the same class, and can be read."""
    record = records.get(details.ids[place])
    if record is None or dataset.class_names[record.label] != details.class_names[details.label[place]]:
        return None
    try:
        data, width, height = thumbnail(read_image(record))
    except VlmPromptError:
        return None
    scale = SIDE / max(width, height)
    lines = say(details, place)
    alt = f"{record.id}: {', '.join(lines)}"
    return Picture(data, "jpeg", max(1, round(width * scale)), max(1, round(height * scale)), alt, lines)


def _mistaken(details: Details, place: int) -> tuple[str, ...]:
    said, true = _name(details, details.prediction[place]), _name(details, details.label[place])
    return (
        f"said {said} {details.confidence[place]:.1%}",
        f"is {true} {details.true_probability[place]:.1%}",
    )


def _uncertain(details: Details, place: int) -> tuple[str, ...]:
    said = f"said {_name(details, details.prediction[place])} {details.confidence[place]:.1%}"
    second = details.runner_up[place]
    then = (f"then {_name(details, second)} {details.runner_up_probability[place]:.1%}",) if second >= 0 else ()
    right = bool(details.correct[place])
    return (said, *then, "right" if right else f"is {_name(details, details.label[place])}")


def _name(details: Details, label: Any) -> str:
    return details.class_names[int(label)]
