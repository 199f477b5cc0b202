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

NAME = "my-own"
LIMITS = ["--shots", "1", "--max-steps", "1", "--workers", "0", "--device", "cpu"]
TRAIN = ["train", "--method", "coop", "--data", "folder:photos", "--backbone", "doodle-clip", *LIMITS, "--out", "run"]
USES = {
    Kind.METHOD: [[NAME if word == "coop" else word for word in TRAIN]],
    Kind.DATASET: [[f"{NAME}:photos" if word == "folder:photos" else word for word in TRAIN]],
    Kind.BACKBONE: [[NAME if word == "doodle-clip" else word for word in TRAIN]],
    Kind.SUITE: [TRAIN, ["evaluate", "run", "--suite", NAME, "--no-reference", "--workers", "0", "--device", "cpu"]],
    Kind.PROVIDER: [["describe-classes", "--data", "folder:photos", "--provider", NAME, "--template", "descriptors",
                     "--out", "texts.jsonl"]],
    Kind.SCORE: [TRAIN, ["predict", "run", "photos/test", "--reject", "0.9", "--score", NAME, "--device", "cpu"]],
}  # fmt: skip


def try_out(tests: str, commands: list[list[str]]) -> None:
    """In a process that finds the package: its own tests, then commands that use it."""
    if find_spec("vlmprompt.testing") is not None:
        assert pytest.main(["-q", "-p", "no:cacheprovider", "--assert=plain", tests]) == 0
    for command in commands:
        assert main(command) == 0, command


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs in folders, and a list of them."""
    folder = make_photos(tmp_path / "photos", splits={"train": 2, "test": 1})
    found = [(path.parts[-3], path.parts[-2], path.relative_to(folder)) for path in sorted(folder.glob("*/*/*.png"))]
    (folder / "images.tsv").write_text("".join(f"{split}\t{name}\t{path}\n" for split, name, path in found))
    return folder


@pytest.mark.parametrize("kind", Kind)
def test_a_new_package_works_as_it_is(kind: Kind, photos: Path, tmp_path: Path) -> None:
    if kind.registry not in host().registries or (kind is Kind.SUITE and "Context" not in api.__all__):
        pytest.skip(f"plugins provide no {kind}s yet")
    assert main(["plugins", "new", NAME, "--kind", kind, "--out", str(tmp_path)]) == 0
    folder = tmp_path / f"vlmprompt-{NAME}"
    env = os.environ | {"PYTHONPATH": str(register(folder)), "VLMPROMPT_STRICT_PLUGINS": "1"}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    process = Process(try_out, str(folder / "tests"), USES[kind], env=env, cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    shutil.rmtree(folder)
    shown = ["providers" if kind is Kind.PROVIDER else f"{kind}s", "show", NAME]
    gone = Process(main, shown, env=env, cwd=tmp_path)
    assert "unknown" in gone.communicate()[1] and gone.returncode == 2


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
