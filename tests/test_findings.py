"""findings/: each script is listed, is shell that parses, and says what it has seen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_of_findings(script: Path) -> None:
    """They are not run here: they install packages."""
    assert f"| [{script.name}]({script.name}) |" in (FOLDER / "README.md").read_text(encoding="utf-8")
    text = script.read_text(encoding="utf-8")
    assert all(word in text for word in ("# What:", "# Why it matters:", "# Seen with:", "# Output seen:", "mktemp -d"))
    assert "import vlmprompt" not in text and script.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)
