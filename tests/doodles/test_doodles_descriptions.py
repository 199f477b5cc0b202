"""The shipped descriptions of the built-in classes: made from the drawings, in the repository and in the wheel."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

from vlmprompt.data.load import load_dataset
from vlmprompt.doodles.descriptions import TEMPLATE, description_file
from vlmprompt.doodles.parse import drawings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "prompts_cache" / "doodles" / "parts--doodles--parts.jsonl"
KEYS = ["schema", "dataset", "class_index", "class", "text", "kind", "provider", "model", "template_sha256"]
KEYS += ["sample", "source"]


def test_the_file_is_what_the_drawings_say() -> None:
    assert FILE.read_text(encoding="utf-8") == description_file(), f"python -m vlmprompt.doodles.descriptions {FILE}"


def test_its_lines() -> None:
    lines = [json.loads(row) for row in FILE.read_text(encoding="utf-8").splitlines()]
    assert all(list(line) == KEYS for line in lines)
    names = load_dataset("doodles").class_names
    assert [line["class_index"] for line in lines] == sorted(line["class_index"] for line in lines)
    assert all(names[line["class_index"]] == line["class"] for line in lines)
    counts = Counter(line["class"] for line in lines)
    assert set(counts) == set(names) and min(counts.values()) >= 5
    assert len({(line["class"], line["text"]) for line in lines}) == len(lines)
    assert {line["provider"] for line in lines} == {"parts"} and {line["kind"] for line in lines} == {"phrase"}
    assert {line["template_sha256"] for line in lines} == {hashlib.sha256(TEMPLATE.encode()).hexdigest()}
    owl = [line["text"] for line in lines if line["class"] == "owl"]
    assert owl == [phrase for part in drawings("animals")["owl"].parts for phrase in part.phrases]


def test_the_wheel_holds_it(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    for name in ("src", "prompts_cache"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=source, capture_output=True, check=True)
    [path] = out.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        assert wheel.read("vlmprompt/prompts_cache/doodles/parts--doodles--parts.jsonl") == FILE.read_bytes()
