"""What the release check holds releases against; the check itself is `nox -s release_check`."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from release.build import Built, require_whole
from release.commands import ReleaseError, run
from release.environments import Environment, borrow, lowest, requirements


def test_the_lowest_versions_are_the_lower_bounds(tmp_path: Path) -> None:
    texts = (
        'name = "core"\ndependencies = ["torch>=2.6", "open_clip_torch>=3.3,<4", "regex"]',
        'name = "core-more"\ndependencies = ["core", "torch>=2.10", "pydantic<3,>=2.8; python_version > \'3\'"]',
    )
    files = [tmp_path / f"{number}.toml" for number in range(2)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(f"[project]\n{text}\n")
    found = requirements(files)
    assert sorted(one.name for one in found) == ["open_clip_torch", "pydantic", "regex", "torch", "torch"]
    assert lowest(found) == ["open-clip-torch==3.3", "pydantic==2.8", "torch==2.10"]


def built(place: Path, *, sdist: list[str], wheel: list[str]) -> Built:
    """A source of two files, and archives that hold some."""
    for name in ("src/vlmprompt/a.py", "tests/test_a.py", ".gitignore"):
        (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "source" / name).write_text("")
    (place / "dist").mkdir()
    with tarfile.open(place / "dist/vlmprompt-1.0.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"vlmprompt-1.0/{name}"), io.BytesIO())
    with zipfile.ZipFile(place / "dist/vlmprompt-1.0-py3-none-any.whl", "w") as content:
        for name in wheel:
            content.writestr(name, "")
    return Built(place / "source", place / "dist")


@pytest.mark.parametrize(
    ("sdist", "wheel", "lacking"),
    [
        (["src/vlmprompt/a.py", "tests/test_a.py"], ["vlmprompt/a.py"], None),
        (["src/vlmprompt/a.py"], ["vlmprompt/a.py"], "vlmprompt-1.0.tar.gz lacks 1 files:\ntests/test_a.py"),
        (
            ["src/vlmprompt/a.py", "tests/test_a.py"],
            [],
            "vlmprompt-1.0-py3-none-any.whl lacks 1 files:\nvlmprompt/a.py",
        ),
    ],
)
def test_a_file_that_is_not_packed_is_named(
    tmp_path: Path, sdist: list[str], wheel: list[str], lacking: str | None
) -> None:
    archives = built(tmp_path, sdist=sdist, wheel=wheel)
    if lacking is None:
        require_whole(archives)
        return
    with pytest.raises(ReleaseError) as caught:
        require_whole(archives)
    assert str(caught.value).startswith(lacking)


def test_another_exit_code_than_wanted_shows_what_was_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('so far'); raise SystemExit(3)"]
    assert run(command, cwd=tmp_path, code=3).stdout == "so far\n"
    with pytest.raises(ReleaseError, match="exit code 3, not 0\nso far"):
        run(command, cwd=tmp_path)


def test_what_is_borrowed_is_all_but_the_released(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    names = (
        "torch",
        "vlmprompt-1.0.dist-info",
        "vlmprompt_bloom-1.0.dist-info",
        "__editable__.x.pth",
        "mypy-1.dist-info",
    )
    for name in names:
        (theirs / name).mkdir(parents=True)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {theirs}\n")
    python.chmod(0o755)
    site = tmp_path / "env/lib/python3.11/site-packages"
    site.mkdir(parents=True)
    borrow(Environment(tmp_path / "env"), python, ["vlmprompt", "vlmprompt-bloom"])
    assert {path.name for path in (tmp_path / "env/borrowed").iterdir()} == {"torch", "mypy-1.dist-info"}
    assert (site / "borrowed.pth").read_text() == f"{tmp_path / 'env/borrowed'}\n"
