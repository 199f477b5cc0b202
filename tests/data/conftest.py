"""Small image trees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

MakeTree = Callable[[Iterable[str]], Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Write files below a fresh folder "photos": images of a colour of their own, anything else as text."""

    def make(paths: Iterable[str]) -> Path:
        base = tmp_path / "photos"
        for path in paths:
            file = base / path
            if path.endswith("/"):
                file.mkdir(parents=True, exist_ok=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix.lower() in (".png", ".jpg", ".jpeg"):
                Image.new("RGB", (12, 10), tuple(hashlib.sha256(path.encode()).digest()[:3])).save(file)
            else:
                file.write_text("text", encoding="utf-8")
        return base

    return make
