"""Test images that are others than they were, data in place of the run's own, other names of classes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import CLASSES, Hooked, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.untrained import evaluate_method
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.run import train

Measure = Callable[..., ResultRow]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", splits={"train": 3, "test": 3})


@pytest.fixture
def measure(photos: Path, tmp_path: Path, tiny_backbone: Backbone) -> Measure:
    """Evaluates a run on `photos`, gives its first row, or the first of a cell."""
    run = train(config(photos, shots=2, epochs=1), runtime(tmp_path / "runs"), backbone=tiny_backbone).run

    def go(suite: str = "accuracy", cell: str = "test", **more: Any) -> ResultRow:
        rows = evaluate(run, suite, runtime(run.parent), backbone=tiny_backbone, reference=False, **more)
        return next(row for row in rows if row.cell == cell)

    return go


def swap(photos: Path) -> None:
    """Exchange the test images of two classes under their old names."""
    one, other, aside = photos / "test" / CLASSES[0], photos / "test" / CLASSES[2], photos / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def expected(run: Path, backbone: Backbone) -> float:
    """Top-1 of a run over class folders of test images, without any store."""
    fresh = Path(shutil.copytree(run, run.parent / "fresh"))
    (fresh / "results.jsonl").unlink(missing_ok=True)
    row = evaluate(fresh, "accuracy", runtime(run.parent), backbone=backbone, reference=False)[0]
    shutil.rmtree(fresh)
    assert row.value is not None
    return row.value


def test_images_replaced_under_their_old_names_are_noticed(
    measure: Measure, photos: Path, tiny_backbone: Backbone
) -> None:
    before = measure()
    assert measure() == before
    swap(photos)
    after = measure()
    run = photos.parent / "runs" / after.run
    assert after.value == expected(run, tiny_backbone) and after.key != before.key
    swap(photos)
    assert measure() == before  # and neither number is lost


def test_by_contents_a_copy_with_other_times_is_the_same(measure: Measure, photos: Path) -> None:
    before, by_time = measure(contents=True), measure()
    for image in (photos / "test").rglob("*.png"):
        os.utime(image, ns=(1, 1))
    assert measure(contents=True).key == before.key
    assert measure().key != by_time.key
    swap(photos)
    assert measure(contents=True).key != before.key


def test_one_more_test_image_is_measured_too(measure: Measure, photos: Path) -> None:
    assert measure().n == 12
    shutil.copy(make_photos(photos.parent / "more", splits={"test": 1}, seed=5) / f"test/{CLASSES[0]}/0.png", photos)
    (photos / "0.png").rename(photos / "test" / CLASSES[0] / "new.png")
    said: list[str] = []
    progress = Hooked()
    progress.warn = said.append  # type: ignore[method-assign]
    assert measure(progress=progress).n == 13
    assert any("has changed since run" in text and "its 13 test images of now" in text for text in said)


def test_other_data_in_place_of_the_runs_own(measure: Measure, photos: Path, tmp_path: Path) -> None:
    """Three classes without a split, one of them under another name: every image counts, in the run's label space."""
    other = make_photos(tmp_path / "other", splits={"all": 1}, classes=("GREY wolf", "red_fox", "vixen"), seed=7)
    spec = f"folder:{other / 'all'}"
    with pytest.raises(InputError, match=r"class 'vixen' of .* is none of those of run"):
        measure(data=spec)
    (tmp_path / "aliases.txt").write_text("vixen = green frog\nyak = ox\n")
    said: list[str] = []
    progress = Hooked()
    progress.warn = said.append  # type: ignore[method-assign]
    row = measure(data=spec, aliases=tmp_path / "aliases.txt", progress=progress)
    assert (row.dataset, row.n, row.status, row.metric) == ("all", 3, "ok", "top1")
    assert said == [f"alias 'yak' of {tmp_path / 'aliases.txt'} has no effect: no other data set calls a class so"]


def test_other_data_need_not_hold_every_class_nor_the_runs_own(measure: Measure, photos: Path, tmp_path: Path) -> None:
    own = measure()
    part = tmp_path / "copy of photos"
    for name in CLASSES[:2]:
        shutil.copytree(photos / "test" / name, part / name)
    row = measure(data=f"folder:{part}")
    assert (row.dataset, row.n) == ("copy of photos", 6)
    shutil.rmtree(photos)
    assert measure(data=f"folder:{part}").value == row.value
    with pytest.raises(InputError, match="there is no"):
        measure()
    assert own.n == 12


def test_other_data_of_the_same_name_get_a_row_of_their_own(measure: Measure, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "test", tmp_path / "new" / "photos")
    spec = f"folder:{tmp_path / 'new' / 'photos'}"
    own, other = measure(), measure(data=spec)
    assert own.value == other.value and (own.dataset, other.dataset) == ("photos", spec)
    assert (own.setup["data"], other.setup["data"]) == (f"folder:{photos}", spec)


def test_images_that_were_trained_on_are_not_measured(measure: Measure, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "train", tmp_path / "again")
    with pytest.raises(InputError, match=r"12 images are among the test images of .*again that run .* has seen"):
        measure(data=f"folder:{tmp_path / 'again'}")
    said: list[str] = []
    progress = Hooked()
    progress.warn = said.append  # type: ignore[method-assign]
    accepted = measure(data=f"folder:{tmp_path / 'again'}", allow_overlap=True, progress=progress)
    assert accepted.n == 12 and "has seen in training" in said[0]
    domains = {"domains": [f"folder:{tmp_path / 'again'}"]}
    row = measure("domain-generalization", cell="again", companions=domains, progress=progress)
    assert row.n == 12 and "has seen in training" in said[1] and len(said) == 2


def test_one_or_several_and_kinds_that_are_none(measure: Measure, photos: Path, tmp_path: Path) -> None:
    other = make_photos(tmp_path / "other", splits={"all": 2}, classes=("Red Fox", "whale"), seed=7)
    spec, table = f"folder:{other / 'all'}", {"Whale": "blue whale"}
    row = measure("domain-generalization", cell="all", companions={"domains": spec}, aliases=table)
    assert (row.status, row.n) == ("ok", 4)
    with pytest.raises(UsageError, match="no companions of kind 'domain'") as error:
        measure(companions={"domain": [spec]})
    assert error.value.hint == "did you mean 'domains'?"
    with pytest.raises(UsageError, match="no companions of kind 'domain'"):
        evaluate_method("zeroshot", f"folder:{photos}", companions={"domain": [spec]})


def test_a_domain_is_measured_whole_and_by_names_as_they_read(measure: Measure, tmp_path: Path) -> None:
    names = ("Red Fox", "GREEN_FROG", "whale")
    other = make_photos(tmp_path / "other", splits={"all": 2}, classes=names, seed=7)
    (tmp_path / "aliases.txt").write_text("Whale = blue whale\n")
    more = {"companions": {"domains": [f"folder:{other / 'all'}"]}, "cell": "all"}
    failed = measure("domain-generalization", **more)
    assert failed.status == "failed" and "class 'whale' of domain" in failed.note and "--aliases" in failed.note
    row = measure("domain-generalization", **more, aliases=tmp_path / "aliases.txt")
    assert (row.status, row.n) == ("ok", 6) and "over the domain's 3 classes" in row.note
