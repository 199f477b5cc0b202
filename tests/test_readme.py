"""README's commands, one after the other in an empty folder, as they stand there.

What stands in for what a reader has: `photos` and `new-photos` are made on the spot, the towers that would be
downloaded are tiny ones of the same name, and a variable ends each training after one step. The built-in drawings and
their model are real.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.documents import commands
from tests.training.material import make_photos
from vlmprompt.cli.main import main
from vlmprompt.plugins import host


@pytest.fixture
def tiny_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever open_clip would load is the tests' tiny ViT."""
    entries = {entry.name: entry for entry in host().backbones.entries()}
    tiny = replace(entries["open_clip"], target="tests.cli.tiny_loader:TinyLoader")
    monkeypatch.setitem(host().backbones._entries, "open_clip", tiny)


@pytest.mark.long
def test_the_commands_work_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_towers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLMPROMPT_TRAIN_MAX_STEPS", "1")
    make_photos(tmp_path / "photos", splits={"train": 16, "test": 2}, classes=("red_fox", "green frog"))
    make_photos(tmp_path, splits={"new-photos": 2}, classes=("red_fox", "green frog"), seed=1)
    found = commands("README.md")
    assert [one.words[1] for one in found] == ["train", "train", "predict", "export", "evaluate", "sweep", "report"]
    for command in found:
        code = main([*command.words[1:]])
        printed = capsys.readouterr()
        assert code == 0, f"{command.line}\n{printed.err}"
    # The last one shows what both evaluate and sweep have measured.
    assert "photos" in printed.out
    for row in ("bloom", "coop", "zeroshot", "linear_probe"):
        assert row in printed.out
    runs = sorted(folder.name for folder in (tmp_path / "sweep" / "runs").iterdir() if folder.is_dir())
    assert len(runs) == 2 * 3 * 3
