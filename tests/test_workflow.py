"""The workflow for GitHub Actions asks for what .ci/run asks for, on every Python that the project promises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
JOB = yaml.safe_load((ROOT / ".github/workflows/nox.yml").read_text(encoding="utf-8"))["jobs"]["tests"]


def sessions(text: str) -> set[str]:
    """The sessions of nox that are run in some lines."""
    return {name for names in re.findall(r"-m nox -s ([\w ]+)", text) for name in names.split()}


def test_it_runs_on_every_python_that_is_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [f"3.{n}" for n in range(30) if f"3.{n}" in SpecifierSet(project["requires-python"])]
    assert promised and JOB["strategy"]["matrix"]["python"] == promised


def test_it_runs_the_sessions_of_the_check() -> None:
    asked = sessions("\n".join(step.get("run", "") for step in JOB["steps"]))
    known = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert asked == sessions((ROOT / ".ci/run").read_text(encoding="utf-8")) <= known
