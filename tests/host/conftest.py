"""Installed plugins without pip: a module and the metadata of its distribution in a folder on sys.path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vlmprompt import plugins

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever host a test loads, the next one has the process's own again."""
    monkeypatch.setattr(plugins, "_host", plugins._host)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install("acme", code)` puts distribution `acme` 1.0 with an entry point and a module `acme` in place."""
    monkeypatch.setattr(plugins, "_host", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(name: str, code: str, *, point: str | None = None, distribution: str | None = None) -> None:
        (tmp_path / f"{name}.py").write_text(f"from vlmprompt.api import hookimpl\n{code}")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vlmprompt]\n{point or name} = {name}\n")
        importlib.invalidate_caches()

    yield install
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
