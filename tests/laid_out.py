"""Packages as files with the metadata that an installation would add: to be found, their `src` is put on sys.path."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a package; gives the folder for sys.path."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return register(folder)


def register(folder: Path) -> Path:
    """Add what says that a package is installed; gives the folder for sys.path."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((module, package),) = project["entry-points"]["vlmprompt"].items()
    metadata = folder / "src" / f"{package}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[vlmprompt]\n{module} = {package}\n", encoding="utf-8")
    return folder / "src"
