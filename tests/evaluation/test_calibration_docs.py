"""docs/calibration.md does what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT
from tests.test_docs import carry_out


@pytest.mark.long
def test_the_page_on_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    text = (ROOT / "docs/calibration.md").read_text(encoding="utf-8")
    making, using = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(making, "docs/calibration.md", "exec"), {})
    carry_out("docs/calibration.md", capsys)
    space: dict[str, Any] = {}
    exec(compile(using, "docs/calibration.md", "exec"), space)
    first, *others = capsys.readouterr().out.splitlines()
    before, after = map(float, first.split())
    assert after < before and space["fitted"].test.after["nll"] < space["fitted"].test.before["nll"]
    temperatures = {line.split()[0] for line in others}
    assert temperatures == {"None", str(space["fitted"].temperature)}
    assert {line.split(maxsplit=2)[2] for line in others} == {"(8, 8)"}
