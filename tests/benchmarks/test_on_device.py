"""`python -m benchmarks.on_device`: how results are compared, and what the report says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import device_equal, on_device
from benchmarks.budget import Line
from benchmarks.device_sizes import TINY, Setting
from benchmarks.frame import Row
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.conformance.material import towers

CPU = Setting(torch.device("cpu"), TINY, workers=0)


@pytest.fixture(scope="module")
def shifted() -> Backbone:
    """The tiny towers with a weight that is a little larger."""
    from vlmprompt.backbones.openclip.miniature import tiny_backbone

    other = tiny_backbone()
    with torch.no_grad():
        next(p for name, p in other.model.named_parameters() if name.endswith("ln_post.weight")).mul_(1.01)
    return other


@pytest.mark.parametrize(("name", "parts"), [("coop", {"loss", "gradients", "logits"}), ("linear_probe", {"logits"})])
def test_the_same_towers_agree_and_others_do_not(name: str, parts: set[str], shifted: Backbone) -> None:
    same = device_equal._compared(name, device_equal.CLASSES, towers(), towers(), 1e-4)
    assert same.passed and same.figures == dict.fromkeys(parts, 0.0)
    other = device_equal._compared(name, device_equal.CLASSES, towers(), shifted, 1e-9)
    assert not other.passed and set(other.figures) == parts


def test_how_far_apart() -> None:
    value, reference = torch.tensor([1.0, -4.5, 2.0]), torch.tensor([1.0, -4.0, 2.25])
    assert device_equal._apart(value, reference) == 0.5 / 4
    assert device_equal._apart(torch.tensor([3.0]), torch.zeros(1)) == 3 and device_equal._apart(value, value) == 0


def test_the_shares_fit_the_time() -> None:
    assert sum(share for _, share, _ in on_device.SHARES) <= on_device.SECONDS < 8 * 60
    assert [part.name for part in on_device.parts(CPU)] == [name for name, _, _ in on_device.SHARES]


def test_the_report_holds_rows_failures_and_what_was_skipped(tmp_path: Path) -> None:
    lines = [
        Line("steps", "ok", Row("step", "gallop", {"step s": 0.25})),
        Line("bf16", "failed", reason="RuntimeError: out of memory"),
        Line("overlap", "skipped", reason="needs 60 s, 9 s are left"),
    ]
    on_device.write(tmp_path, CPU, lines)
    document = json.loads((tmp_path / "on_device.json").read_text())
    assert [line["status"] for line in document["lines"]] == ["ok", "failed", "skipped"]
    assert document["lines"][0]["row"]["figures"] == {"step s": 0.25} and document["sizes"]["tower"] == "doodle-clip"
    table = (tmp_path / "on_device.md").read_text()
    assert "| steps | gallop | step s 0.25 | - | ok |" in table
    assert "| overlap | | | needs 60 s, 9 s are left | skipped |" in table and "small sizes: no speeds" in table
