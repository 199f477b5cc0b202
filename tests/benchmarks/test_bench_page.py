"""The page of the benchmarks: what a run left is what stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.against import BENCH
from benchmarks.frame import Mark, Row
from benchmarks.run import machine, write


def test_a_run_becomes_the_measured_part(tmp_path: Path) -> None:
    marks = (Mark("ratio", 1.3, 1.25), Mark("error", 2e-3, 1e-5, at_least=False))
    write(tmp_path, [Row("towers", "ViT-B-16", {"seconds": 0.5}, marks), Row("ot", "plans", {"s": 2.0})])
    rows = [{"bench": "ot", "case": "plans", "figure": "s", "other": 4.0, "own": 2.0}]
    against = {"machine": machine(), "other": "7fc993d", "rows": rows}
    (tmp_path / "against.json").write_text(json.dumps(against), encoding="utf-8")
    part = page.measured([tmp_path])
    assert "| towers | ViT-B-16 | seconds 0.5 | ratio 1.3 (>= 1.25: reached); error 0.002 (<= 1e-05: MISSED) |" in part
    assert "| ot | plans | s 2 | - |" in part
    assert "Beside commit 7fc993d" in part
    assert "| ot | plans | s | 4 | 2 | 2.00 |" in part
    assert part.startswith(f"Measured on {machine()['date']} at commit ")


def test_runs_at_one_commit_share_a_table(tmp_path: Path) -> None:
    for name in ("first", "second", "earlier"):
        write(tmp_path / name, [Row(name, "case", {"s": 1.0})])
    report = tmp_path / "earlier" / BENCH
    saved = json.loads(report.read_text(encoding="utf-8"))
    saved["machine"]["date"] = "2020-02-02"
    report.write_text(json.dumps(saved), encoding="utf-8")
    part = page.measured([tmp_path / name for name in ("first", "earlier", "second")])
    assert "| first | case | s 1 | - |\n| second | case | s 1 | - |\n\nMeasured on 2020-02-02" in part


def test_the_rest_of_the_page_stays() -> None:
    text = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    once = page.replaced(text, "new")
    assert once == f"before\n{page.BEGIN}\n\nnew\n\n{page.END}\nafter\n"
    assert page.replaced(once, "new") == once


def test_the_page_has_the_place() -> None:
    assert page.replaced(page.PAGE.read_text(encoding="utf-8"), "x")
    with pytest.raises(ValueError, match="lacks the lines"):
        page.replaced("no such place", "x")
