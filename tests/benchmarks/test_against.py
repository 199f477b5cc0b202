"""A benchmark of two checkouts: what is put on the path, and how their figures become ratios."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import against

PLACE = "b", "c"


def test_ratios_are_of_medians(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {
        tmp_path: [{(*PLACE, "s"): 9.0, (*PLACE, "old"): 1.0}, {(*PLACE, "s"): 3.0}, {(*PLACE, "s"): 6.0}],
        against.HERE: [{(*PLACE, "s"): 2.0, (*PLACE, "new"): 1.0}, {(*PLACE, "s"): 8.0}, {(*PLACE, "s"): 4.0}],
    }
    asked = []

    def figures(name: str, packages: Path, code: Path, repeats: int | None) -> against.Figures:
        asked.append((packages, code))
        return found[packages][sum(root == packages for root, _ in asked) - 1]

    monkeypatch.setattr(against, "_figures", figures)
    compared = against.compare("b", tmp_path, rounds=3, repeats=None, own_code=False)
    assert compared == [against.Compared("b", "c", "s", 6.0, 4.0)]
    assert against.table(compared).splitlines()[2:] == ["| b | c | s | 6 | 4 | 1.50 |"]
    assert asked == [(tmp_path, against.HERE), (against.HERE, against.HERE)] * 3


def test_a_checkouts_packages_come_before_the_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "plugins" / "bloom" / "src").mkdir(parents=True)
    found = against.environment(tmp_path, Path("/here"))
    assert found["PYTHONPATH"] == f"{tmp_path}/src:{tmp_path}/plugins/bloom/src:/here"
    assert found["BENCH_CLOCK"] == "processor"
