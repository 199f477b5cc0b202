"""How many recorded views a run has: by its setting or by the rule, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.keys import Text
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import UsageError
from vlmprompt.progress import SilentProgress
from vlmprompt.training.dry_run import dry_run, report_lines
from vlmprompt.training.run import train
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.views import worthwhile


class Heard(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.mark.parametrize(
    ("fresh", "drawn", "augmented", "views"),
    [(200, 1, True, 16), (64, 1, True, 16), (63.9, 1, True, 8), (31, 1, True, 4), (4, 1, True, 1), (3.9, 1, True, 0)]
    + [(40, 2, True, 8), (12, 2, True, 0), (200, 20, True, 0), (200, 1, False, 1), (3, 1, False, 0)],
)
def test_the_rule(fresh: float, drawn: int, augmented: bool, views: int) -> None:
    """The most of 16, 8, 4 and 1 that are at most a quarter of the fresh ones, and no fewer than a step draws."""
    assert worthwhile(fresh, drawn=drawn, augmented=augmented) == views


def asked(photos: Path, tmp_path: Path, backbone: Backbone, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    report = dry_run(config(photos, **changes), runtime(tmp_path), backbone=backbone)
    return report, [line for line in report_lines(report) if line.startswith("views ")]


def test_a_dry_run_says_what_views_would_save(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    """12 images, 3 steps of 4 an epoch: 16 epochs see each image 16 times."""
    report, lines = asked(photos, tmp_path, tiny_backbone, epochs=16)
    views, flops = report["views"], report["flops"]
    assert (views["fresh"], views["recorded"], views["worthwhile"]) == (16, 0, 4)
    share = f"{48 * flops['image'] / 1e12:.3g} of the run's {48 * flops['step'] / 1e12:.3g} TFLOP are the tower's"
    saving = "--views 4 would run it over 4 views of each image once: 4 times less"
    assert lines == [f"views     fresh views: the image tower runs every step; {saving} ({share})"]
    report, lines = asked(photos, tmp_path, tiny_backbone, epochs=16, augment=False)
    assert "the same view in every epoch" in lines[0] and "--views 1 would run it over 1 view" in lines[0]
    assert report["views"]["worthwhile"] == 1
    for quiet in ({"views": 2}, {"epochs": 3}, {"method": "zeroshot"}):
        assert asked(photos, tmp_path, tiny_backbone, **quiet)[1] == []


def test_views_by_the_rule(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    progress = Heard()
    settings = config(photos, epochs=4, views="auto")
    run = train(settings, runtime(tmp_path / "runs"), progress=progress, backbone=tiny_backbone).run
    said = "--views auto: 1 view of each image, computed once, where the image tower would run over it 4 times"
    assert progress.messages[0] == f"{said}: 4 times less"
    info = RunInfo.read(run)
    assert info.features == "features of one deterministic view of each image, computed once"
    assert info.config.train.views == "auto"  # so that the same command finds the same run
    by_number = train(config(photos, epochs=4, views=1), runtime(tmp_path / "other"), backbone=tiny_backbone).run
    assert (run / "log.jsonl").read_text().count("\n") == (by_number / "log.jsonl").read_text().count("\n")
    assert info.metrics["loss"] == RunInfo.read(by_number).metrics["loss"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"epochs": 3}, "the image tower would run over each image 3 times, too few for recorded ones to save"),
        ({"method": "maple", "epochs": 16}, "it trains through the image tower"),
    ],
)
def test_the_rule_leaves_views_fresh(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    report, lines = asked(photos, tmp_path, tiny_backbone, views="auto", **changes)
    assert report["features"] == "fresh augmentation every epoch" and report["flops"]["image"] > 0
    assert len(lines) == 1 and lines[0].startswith(f"views     --views auto: fresh views; {why}")


def test_the_flag_takes_a_number_or_auto() -> None:
    def views(value: str) -> object:
        return resolve({"method": "coop", "data": "doodles", "train.views": Text(value)}).run.train.views

    assert views("auto") == "auto" and views("4") == 4
    for wrong in ("many", "-1"):
        with pytest.raises(UsageError, match=r"train\.views"):
            views(wrong)
