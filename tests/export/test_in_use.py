"""docs/in-use.md does what it shows, from an empty folder on."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import ROOT, carry_out


@pytest.mark.long
def test_the_path_from_an_empty_folder_to_a_program_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    text = (ROOT / "docs/in-use.md").read_text(encoding="utf-8")
    making, *later = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(making, "docs/in-use.md", "exec"), {})
    carry_out("docs/in-use.md", capsys)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "new/pattern.png" in page  # among the pictures of `explain`
    space: dict[str, Any] = {}
    for block in later:
        exec(compile(block, "docs/in-use.md", "exec"), space)
    assert (space["said"].names, space["said"].verdicts) == (["cat", "toad"], ["known", "unknown"])
    assert (tmp_path / "animals.safetensors").exists()
