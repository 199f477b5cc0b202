"""What reporters print."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pandas as pd
import pytest
from result_rows import row

from vlmprompt.results.reporters import CsvReporter, JsonReporter, MarkdownReporter, Reporter, TerminalReporter
from vlmprompt.results.rows import PRIVATE, ResultRow

METRICS = {"top1": 0.6, "top5": 0.9, "mean_per_class": 0.58, "ece_15": 0.1}
COMMAND = "vlmprompt train --method coop --data folder:photos --backbone ViT-B-32-quickgelu --shots 8 --seed 1"


def table_rows(*, seeds: int) -> list[ResultRow]:
    """Two methods, four metrics."""
    return [
        row(run=f"{method}{s}", method=method, seed=s, metric=m, value=v + s / 100, higher_is_better=m != "ece_15")
        for method in ("coop", "linear_probe")
        for s in range(1, seeds + 1)
        for m, v in METRICS.items()
    ]


def test_terminal_table_as_people_see_it() -> None:
    missing = row(method="bloom", value=None, status="not_applicable", note=f"no run; to train it: {COMMAND}")
    assert TerminalReporter().render([*table_rows(seeds=1), missing], width=80) == "\n".join(
        [
            "accuracy on photos, ViT-B-32-quickgelu (%)",
            "  method        shots     top1   top5  mean per class  ece 15 ↓",
            "  ─────────────────────────────────────────────────────────────",
            "  coop          16       61.00  91.00           59.00     11.00",
            "  linear_probe  16       61.00  91.00           59.00     11.00",
            "  bloom         16     n/a [1]      –               –         –",
            "  images                   100    100             100       100",
            "↓ lower is better",
            f"[1] not applicable: no run; to train it: {COMMAND}",
        ]
    )


@pytest.mark.parametrize("width", [60, 80, 160])
def test_terminal_lines_fit(width: int) -> None:
    lines = TerminalReporter().render(table_rows(seeds=3), width=width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert any("linear_probe" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    assert ("62.00 ±1.00" in text) == (width > 60)


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "62.00 ±1.00  92.00 ±1.00" in TerminalReporter().render(table_rows(seeds=3))
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, TerminalReporter().render(table_rows(seeds=3)).splitlines())) <= 60


def test_markdown_table() -> None:
    rows = [*table_rows(seeds=1)[:1], row(method="a|b", value=None, status="failed", note="<b>*\nend")]
    assert MarkdownReporter().render(rows) == "\n".join(
        [
            "### accuracy on photos, ViT-B-32-quickgelu (%)",
            "",
            "| method | shots | top1 |",
            "| --- | --- | ---: |",
            "| coop | 16 | 61.00 |",
            "| a\\|b | 16 | failed [1] |",
            "| images |  | 100 |",
            "",
            "\\[1\\] failed: \\<b>\\* end",
        ]
    )


def test_csv_is_long_and_exact() -> None:
    rows = [
        row(value=1 / 3, setup={"train.lr": "0.1"}),
        row(shots=None, seed=None, value=None, status="failed", note='said "no",\ntwice'),
    ]
    text = CsvReporter().render(rows)
    frame = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    assert list(frame.columns) == [name for name in ResultRow.model_fields if name not in PRIVATE]
    assert list(frame["setup"]) == ['{"train.lr": "0.1"}', "{}"]
    assert frame["value"][0] == 1 / 3
    assert frame["note"][1] == 'said "no",\ntwice'
    assert frame[["shots", "seed", "value"]].isna().to_numpy().tolist() == [[False] * 3, [True] * 3]
    assert text.splitlines()[1].startswith("run,coop,photos,ViT-B-32-quickgelu,16,1,accuracy,1,test,top1,0.333")
    assert not text.endswith("\n")


def test_json_is_what_the_command_line_documents() -> None:
    document = json.loads(JsonReporter().render([row(value=1 / 3, key="secret")]))
    assert document["schema"] == 1
    assert document["rows"] == [row(value=1 / 3).public()]
    assert "key" not in document["rows"][0]


@pytest.mark.parametrize(
    ("reporter", "name"),
    [
        (TerminalReporter(), "[red]\\u001b[31m\\u000d\\u202e"),
        (MarkdownReporter(), "[red]\\\\u001b[31m\\\\u000d\\\\u202e"),
    ],
)
def test_names_do_not_steer_the_terminal_and_long_ones_are_cut(reporter: Reporter, name: str) -> None:
    text = reporter.render([row(method="[red]\x1b[31m\r\u202e", dataset="x" * 30_000_000, note="\x1b" * 5000)])
    assert name in text and not {"\x1b", "\r", "\u202e"} & set(text)
    assert "30,000,0" in text and len(text) < 15_000


@pytest.mark.parametrize("reporter", [TerminalReporter(), MarkdownReporter(), CsvReporter(), JsonReporter()])
def test_no_rows(reporter: Reporter) -> None:
    assert reporter.render([])


def test_tables_for_people_need_no_pandas() -> None:
    code = "import sys, vlmprompt.results.reporters; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
