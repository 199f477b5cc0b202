"""docs/predict.md does what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT
from tests.test_docs import carry_out


@pytest.mark.long
def test_the_page_on_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    text = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
    making, *using = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(making, "docs/predict.md", "exec"), {})
    carry_out("docs/predict.md", capsys)
    space: dict[str, Any] = {}
    for block in using:
        exec(compile(block, "docs/predict.md", "exec"), space)
    assert len(using) == 3
    said = space["said"]
    assert (said.names, said.verdicts, list(said.top(2)[0])) == (["cat"], ["known"], ["cat", "rabbit"])
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "new/0.png cat known",
        "new/1.png snail known",
        "new/2.png turtle known",
        "new/3.png snail unknown",
        "new/4.png cat known",
    ]
