"""Environments without the checkout: clean ones with the lowest or newest dependencies, or one that borrows them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.commands import run


@dataclass(frozen=True)
class Environment:
    """A virtual environment; it has no pip of its own."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def vlmprompt(self) -> Path:
        """The command that an installation makes."""
        return self.folder / "bin" / "vlmprompt"

    def pip(self, *arguments: str | Path) -> None:
        """Run pip for it."""
        # Not --quiet, which would also hide why requirements conflict; nothing is shown unless it fails.
        plain = ["--progress-bar", "off"] if arguments[0] == "install" else []
        plain += ["--disable-pip-version-check", "--no-input"]
        own = [sys.executable, "-m", "pip", "--python", self.python, arguments[0], *plain, *arguments[1:]]
        run(own, cwd=self.folder)


def made(folder: Path, python: Path) -> Environment:
    """A new environment with nothing in it.

    Args:
        python: whose version it has.
    """
    run([python, "-m", "venv", "--without-pip", folder], cwd=folder.parent)
    return Environment(folder)


def borrow(environment: Environment, python: Path, own: Iterable[str]) -> None:
    """Let an environment see what another has installed, but for some distributions.

    Links stand for it, as a link is no installation: un-installing leaves the other as it is.

    Args:
        python: of the other one.
        own: what is not to be seen, with their packages.
    """
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    hidden = {canonicalize_name(name) for name in own}
    links = environment.folder / "borrowed"
    links.mkdir()
    for path in theirs.iterdir():
        name = canonicalize_name(path.name.partition("-")[0].removesuffix(".py"))
        if name not in hidden and not path.name.startswith("__editable__") and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    (site,) = environment.folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(f"{links}\n", encoding="utf-8")


def requirements(pyprojects: Sequence[Path]) -> list[Requirement]:
    """What distributions depend on, extras left out, without each other."""
    projects = [tomllib.loads(file.read_text(encoding="utf-8"))["project"] for file in pyprojects]
    own = {canonicalize_name(project["name"]) for project in projects}
    found = [Requirement(line) for project in projects for line in project["dependencies"]]
    return [one for one in found if canonicalize_name(one.name) not in own]


def lowest(found: Iterable[Requirement]) -> list[str]:
    """Constraints that hold each requirement at its lower bound; of several bounds of one package the highest."""
    from packaging.version import Version

    bounds: dict[str, Version] = {}
    for one in found:
        for part in one.specifier:
            if part.operator == ">=":
                name = canonicalize_name(one.name)
                bounds[name] = max(Version(part.version), bounds.get(name, Version("0")))
    return [f"{name}=={bound}" for name, bound in sorted(bounds.items())]
