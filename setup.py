"""What pyproject.toml cannot say: a wheel holds the repository's prompts_cache/ within the package.

An editable install leaves it where it is, beside src/.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDER = "prompts_cache"


class BuildPy(build_py):
    """Also copies the description files."""

    def run(self) -> None:
        """Copy modules, package data and description files."""
        super().run()
        if not self.editable_mode:
            for file, target in self._descriptions():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What a wheel records."""
        copied = [] if self.editable_mode else [str(target) for _, target in self._descriptions()]
        return [*super().get_outputs(include_bytecode), *copied]

    def get_source_files(self) -> list[str]:
        """What a source distribution needs."""
        return [*super().get_source_files(), *(str(file) for file, _ in self._descriptions())]

    def _descriptions(self) -> list[tuple[Path, Path]]:
        files = sorted(Path(FOLDER).glob("*/*.jsonl"))
        return [(file, Path(self.build_lib) / "vlmprompt" / file) for file in files]


setup(cmdclass={"build_py": BuildPy})
