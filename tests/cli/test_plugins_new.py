"""`vlmprompt plugins new`: each kind of package works as it is written, and is gone when it is removed."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.laid_out import register
from tests.processes import Process
from tests.training.material import make_photos
from vlmprompt import api
from vlmprompt.cli.main import main
from vlmprompt.cli.plugins_new import Kind, package_files
from vlmprompt.plugins import host

DEVICE = ["--workers", "0", "--device", "cpu"]
# Each kind is used by name: the method is trained on the data set over the backbone, and so on.
COMMANDS = [
    ["train", "--method", "my-method", "--data", "my-dataset:photos", "--backbone", "my-backbone", "--out", "run"]
    + ["--shots", "1", "--max-steps", "1", *DEVICE],
    ["evaluate", "run", "--suite", "my-suite", "--no-reference", *DEVICE],
    ["predict", "run", "photos/test", "--reject", "0.9", "--score", "my-score", *DEVICE],
    ["describe-classes", "--data", "folder:photos", "--provider", "my-provider", "--template", "features"],
]


def provided() -> list[Kind]:
    """The kinds that plugins can provide; not asked at import, which would load the host before its time."""
    there = [kind for kind in Kind if kind.registry in host().registries]
    return [kind for kind in there if kind is not Kind.SUITE or "Context" in api.__all__]


def try_out(folders: list[str], commands: list[list[str]]) -> None:
    """In a process that finds the packages: their own tests, then commands that use them."""
    if find_spec("vlmprompt.testing") is not None:
        assert pytest.main(["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--assert=plain", *folders]) == 0
    for command in commands:
        assert main(command) == 0, command


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs in folders, and a list of them."""
    folder = make_photos(tmp_path / "photos", splits={"train": 2, "test": 1})
    found = [(*path.parts[-3:-1], path.relative_to(folder)) for path in sorted(folder.glob("*/*/*.png"))]
    (folder / "images.tsv").write_text("".join(f"{split}\t{name}\t{path}\n" for split, name, path in found))
    return folder


@pytest.mark.long
def test_new_packages_work_as_they_are(photos: Path, tmp_path: Path) -> None:
    """Of every kind one, side by side: their tests pass, they are at work, and gone when they are removed."""
    kinds = provided()
    for kind in kinds:
        assert main(["plugins", "new", f"my-{kind}", "--kind", kind, "--out", str(tmp_path / "packages")]) == 0
    folders = sorted((tmp_path / "packages").iterdir())
    assert [folder.name for folder in folders] == sorted(f"vlmprompt-my-{kind}" for kind in kinds)
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(register(folder)) for folder in folders),
        "VLMPROMPT_STRICT_PLUGINS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    absent = {f"my-{kind}" for kind in Kind if kind not in kinds}
    commands = [command for command in COMMANDS if absent.isdisjoint(command)]
    process = Process(try_out, [str(folder / "tests") for folder in folders], commands, env=env, cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert (tmp_path / "run/run.json").exists() and list(tmp_path.glob("prompts_cache/*/my-provider--*.jsonl"))
    shutil.rmtree(tmp_path / "packages")
    gone = Process(main, ["evaluate", "run", "--force", *DEVICE], env=env, cwd=tmp_path)
    assert "of vlmprompt-my-method 0.1, which is not installed" in gone.communicate()[1]
    assert gone.returncode == 3


@pytest.mark.parametrize("kind", Kind)
def test_a_package_asks_for_the_api_that_it_was_written_for(kind: Kind) -> None:
    files = package_files("my_own", kind)
    assert f'REQUIRES_API = "{api.VERSION}"' in files["src/vlmprompt_my_own/__init__.py"]
    assert not [text for text in files.values() if "$" in text]
    assert "class MyOwn" in files[f"src/vlmprompt_my_own/{kind}.py"]


def test_what_is_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", "ensemble", "--out", str(tmp_path / "deep"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    folder = tmp_path / "deep/vlmprompt-ensemble"
    assert data["folder"] == str(folder)
    assert {path: (folder / path).read_text() for path in data["files"]} == package_files("ensemble", Kind.METHOD)
    assert [path.name for path in folder.parent.iterdir()] == ["vlmprompt-ensemble"]


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("My-Own", "method", "'My-Own' cannot be the name of a method"),
        ("my own", "suite", "'my own' cannot be the name of a suite"),
        ("1st", "method", "'1st' cannot be"),
        ("my--own", "method", "'my--own' cannot be"),
        ("../own", "method", "'../own' cannot be"),
        ("none", "method", "'none' cannot be"),
        ("coop", "method", "method 'coop' is there already, of plugin 'builtin' (vlmprompt "),
        ("folder", "dataset", "dataset 'folder' is there already"),
        ("bloom", "suite", "there is a package vlmprompt-bloom already"),
    ],
)
def test_a_name_that_cannot_be_taken(
    name: str, kind: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "new", name, "--kind", kind, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {reason}")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vlmprompt-my-own").write_text("mine")
    assert main(["plugins", "new", "my-own", "--out", str(tmp_path)]) == 3
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "vlmprompt-my-own").read_text() == "mine"
