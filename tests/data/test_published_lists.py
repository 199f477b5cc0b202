"""The comparer of published lists itself: it passes on equal lists and notices every kind of difference."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from published_lists import main


def publish(folder: Path) -> Path:
    """A split of 3 classes, and one 2-shot list drawn from it with the module-level generator."""
    names = ["banded", "dotted", "woven"]
    rows = [[f"{name}/{i}.jpg", label, name] for label, name in enumerate(names) for i in range(6)]
    state = random.getstate()
    random.seed(1)
    drawn = {
        part: [
            [f"./data/dtd/images/{path}", *rest]
            for label in range(3)
            for path, *rest in random.sample([row for row in rows if row[1] == label], 2)
        ]
        for part in ("train", "val")
    }
    random.setstate(state)
    (folder / "splits").mkdir()
    (folder / "fewshot_indices/dtd").mkdir(parents=True)
    split = folder / "splits/split_zhou_DescribableTextures.json"
    split.write_text(json.dumps({"train": rows, "val": rows, "test": rows}), encoding="utf-8")
    published = folder / "fewshot_indices/dtd/shot_2-seed_1.json"
    published.write_text(json.dumps(drawn), encoding="utf-8")
    return published


def test_equal_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path)
    assert main(tmp_path) == 0
    assert "1 lists, 0 differ" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["train", "val"])
def test_differences_are_noticed(tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    published = publish(tmp_path)
    drawn = json.loads(published.read_text(encoding="utf-8"))
    rows = drawn[part]
    path, label, name = rows[3]
    for changed in (
        rows[:-1],
        [rows[1], rows[0], *rows[2:]],
        [*rows[:3], [path, label + 1, name], *rows[4:]],
        [*rows[:3], [path, label, "plaid"], *rows[4:]],
        [*rows[:3], [f"other/{path}", label, name], *rows[4:]],
    ):
        published.write_text(json.dumps(drawn | {part: changed}), encoding="utf-8")
        assert main(tmp_path) == 1
    assert f"{part}: element 0: drawn" in capsys.readouterr().out


def test_nothing_to_compare_is_a_failure(tmp_path: Path) -> None:
    assert main(tmp_path) == 1
