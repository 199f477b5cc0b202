"""Wheels and source distributions of everything, built from the files that git knows, and what is in them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from release.commands import ReleaseError, run

# Of the repository, what no source distribution needs.
LEFT_OUT = (".gitignore",)


@dataclass(frozen=True)
class Built:
    """The files to be released.

    Attributes:
        source: a copy of the files that git knows, which they were built from.
        dist: the folder they lie in.
    """

    source: Path
    dist: Path

    @property
    def wheels(self) -> list[Path]:
        """Of the core and all plugins."""
        return sorted(self.dist.glob("*.whl"))

    @property
    def core_sdist(self) -> Path:
        """The source distribution of vlmprompt itself."""
        (found,) = self.dist.glob("vlmprompt-[0-9]*.tar.gz")
        return found


def build_all(root: Path, place: Path, *, isolated: bool) -> Built:
    """Build each distribution: the source distribution first, and the wheel from that.

    Args:
        isolated: in an environment with what pyproject.toml asks for, which is downloaded; else in the running one.

    Raises:
        ReleaseError: one cannot be built, or its description cannot be shown by a package index.
    """
    built = Built(copied(root, place / "source"), place / "dist")
    for folder in (built.source, *sorted(path.parent for path in built.source.glob("plugins/*/pyproject.toml"))):
        build_one(folder, built.dist, isolated=isolated)
    files = sorted(built.dist.iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *files], cwd=place)
    require_whole(built)
    return built


def build_one(folder: Path, dist: Path, *, isolated: bool) -> None:
    """Build the source distribution and the wheel of one folder."""
    how = [] if isolated else ["--no-isolation"]
    run([sys.executable, "-m", "build", "--outdir", dist, *how, folder], cwd=folder)


def copied(root: Path, place: Path) -> Path:
    """The files that git knows, with what is changed in them, elsewhere: a build leaves its traces there."""
    for name in tracked(root):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, place / name)
    return place


def tracked(root: Path) -> list[str]:
    """Paths of all files that git knows and that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


def require_whole(built: Built) -> None:
    """Hold the contents against the sources.

    Raises:
        ReleaseError: names what is missing.
    """
    files = {path.relative_to(built.source).as_posix() for path in built.source.rglob("*") if path.is_file()}
    files = {name for name in files if "egg-info" not in name and not name.startswith(("build/", *LEFT_OUT))}
    with tarfile.open(built.core_sdist) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    needed = {name for name in files if "/build/" not in name}
    _require(needed - there, built.core_sdist.name)
    for wheel in built.wheels:
        package = wheel.name.partition("-")[0]
        with zipfile.ZipFile(wheel) as content:
            names = set(content.namelist())
        own = {name.partition("src/")[2] for name in files if f"src/{package}/" in name}
        _require(own - names, wheel.name)


def _require(missing: set[str], where: str) -> None:
    if missing:
        shown = "\n".join(sorted(missing)[:20])
        raise ReleaseError(f"{where} lacks {len(missing)} files:\n{shown}")
