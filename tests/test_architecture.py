"""Every file, folder and name of docs/architecture.md is there, and every folder of the package is on that page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/vlmprompt"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
NAMED = [tuple(code.split(": ")) for code in CODE if re.fullmatch(r"[\w/]+\.py: [\w.]+", code)]


def defined(file: Path) -> set[str]:
    """Functions and classes of a module, and methods as Class.method."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    own = {node.name for node in body if isinstance(node, kinds)}
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    return own | {f"{cls.name}.{node.name}" for cls in classes for node in cls.body if isinstance(node, kinds)}


def test_what_is_defined_is_found(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("def one(): ...\nclass Two:\n    def three(self): ...\nfour = 4\n", encoding="utf-8")
    assert defined(file) == {"one", "Two", "Two.three"}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_name_is_where_the_page_says(file: str, name: str) -> None:
    assert name in defined(PACKAGE / file)


def test_files_and_folders_of_the_page_are_there() -> None:
    paths = [code for code in CODE if re.fullmatch(r"[\w/]+(\.py|\.toml|/)", code)]
    assert len(paths) >= 5 and len(NAMED) >= 50
    assert [path for path in paths if not ((PACKAGE / path).exists() or (ROOT / path).exists())] == []


def test_the_picture_shows_every_folder() -> None:
    (picture,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"testing"}  # which plugins' tests import
    shown = set(re.findall(r"\b([a-z]+)/", picture))
    assert folders <= shown
    assert shown - folders <= {"plugins", "text", "vision", "openclip"}
