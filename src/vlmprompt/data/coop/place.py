"""Where a benchmark data set lies below the root: its folders under any of their known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.data.coop.facts import Benchmark, benchmarks
from vlmprompt.data.files import entries
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError


@dataclass(frozen=True)
class Place:
    """The folders of a data set that are there.

    Attributes:
        root: parent folder of data sets.
        folders: the data set's own, the usual one first; empty if none is there.
    """

    benchmark: Benchmark
    root: Path
    folders: tuple[Path, ...]

    @classmethod
    def below(cls, root: Path | None, benchmark: Benchmark) -> Place:
        """Look below the root, which is the working directory if none is given."""
        root = Path() if root is None else root
        names = dict.fromkeys((*benchmark.folders, benchmark.name))
        return cls(benchmark, root, tuple(root / name for name in names if (root / name).is_dir()))

    def find(self, file: str) -> Path | None:
        """A file of the data set, in its folders or else directly in the root."""
        return next((path for folder in (*self.folders, self.root) if (path := folder / file).is_file()), None)

    def find_images(self, components: Iterable[str]) -> Path | None:
        """The folder that paths of images are relative to.

        Args:
            components: how these paths may begin; a data set's own folder counts only if one of them is in it.
        """
        firsts = list(components)
        for folder in self.folders:
            for name in self.benchmark.image_folders:
                if name != "." and (folder / name).is_dir():
                    return folder / name
                if name == "." and any((folder / first).exists() for first in firsts):
                    return folder
        return None

    def images(self, components: Iterable[str]) -> Path:
        """As `find_images`.

        Raises:
            InputError: there is none; says what is there in its place.
        """
        self.require_folder()
        found = self.find_images(components)
        if found is not None:
            return found
        names = [name for name in self.benchmark.image_folders if name != "."]
        what = f"no folder {names[0]}" if names else f"none of the folders {', '.join(self.benchmark.within)}"
        raise InputError(
            f"{self.benchmark.spec} has {what} in {self.folders[0]}{_beside(self.folders[0])}",
            hint=f"expected are images in {self.benchmark.layout}; they are had from {self.benchmark.had_from}",
        )

    def require_folder(self) -> None:
        """Check that the data set has a folder at all.

        Raises:
            InputError: it has none; says which similar one there is.
        """
        if self.folders:
            return
        wanted = self.benchmark.folders[0]
        had_from = (
            f"--root (or VLMPROMPT_ROOT) is the parent folder of {wanted}; it is had from {self.benchmark.had_from}"
        )
        message = f"there is no folder {wanted} for {self.benchmark.spec} in {self.root.absolute()}"
        raise InputError(message, hint=self.misplaced() or had_from)

    def misplaced(self) -> str | None:
        """What to do where the root, or the folder's name in it, seems to be the wrong one; None where neither does.

        Raises:
            InputError: the root cannot be read.
        """
        if self.folders:
            return None
        wanted = self.benchmark.folders[0]
        if not self.root.is_dir():
            return f"there is no folder {self.root.absolute()}; --root (or VLMPROMPT_ROOT) is the parent of {wanted}"
        packed = self.benchmark.archive
        if packed and (self.root / packed).is_file():
            return f"unpack it in {self.root.absolute()}: python -m zipfile -e {packed} ."
        inside = self.benchmark.image_folders[0]
        if inside != "." and (self.root / inside).is_dir():
            return f"--root is the parent folder of {wanted}, not that folder itself"
        near = difflib.get_close_matches(wanted, self._unknown_folders(), n=1, cutoff=0.6)
        if near:
            return f"rename {near[0]} to {wanted} if that is it; else see 'vlmprompt data show {self.benchmark.spec}'"
        return None

    def _unknown_folders(self) -> list[str]:
        """Folders in the root that are no other benchmark's: oxford_flowers is no renamed oxford_pets."""
        others = [facts for name, facts in benchmarks().items() if name != self.benchmark.name]
        known = {name for facts in others for name in (*facts.folders, facts.name)}
        return [entry.name for entry in entries(self.root) if entry.is_dir() and entry.name not in known]


def _beside(folder: Path) -> str:
    """What else is in a folder, for messages: folders first."""
    found = entries(folder)
    names = [entry.name for kind in (True, False) for entry in found if entry.is_dir() is kind]
    return f" (there is: {shortened(names, 4)})" if names else ", which is empty"
