"""Wrong input at the command line: one line that names the thing, a next step, the right exit code, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import CLASSES, Breaking, Exploding, make_photos, registered
from vlmprompt.cli.main import main
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.training.checkpoint import Checkpoint

RED = CLASSES[0]
pytestmark = pytest.mark.usefixtures("tiny_spec")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ./photos: 4 classes, 4 train and 2 test images each."""
    monkeypatch.chdir(tmp_path)
    return make_photos(tmp_path / "photos", splits={"train": 4, "test": 2})


OPTIONS = ("--set", "n_ctx=2", "--set", "checkpoint_every=1")


def train(*flags: str, method: str = "coop", steps: str = "4", options: Sequence[str] = OPTIONS) -> int:
    fixed = ["--data", "folder:photos", "--backbone", "tiny-vit", "--shots", "3", "--batch-size", "4"]
    where = ["--device", "cpu", "--workers", "0", "--out", "run", "--max-steps", steps]
    return main(["train", "--method", method, *fixed, *where, *options, *flags])


def errors(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """`error` and `hint` of stderr; an error is one line, and there is no traceback."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    lines = [line.split(": ", 1) for line in text.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [label for label, _ in lines] in (["error"], ["error", "hint"]), text
    return dict(lines)


def truncate(photos: Path) -> None:
    image = photos / "train" / RED / "1.png"
    image.write_bytes(image.read_bytes()[:60])


def scribble(photos: Path) -> None:
    (photos / "train" / RED / "1.png").write_text("this is no image")


def name_file(*names: str) -> Callable[[Path], None]:
    return lambda photos: (photos.parent / "names.txt").write_text("\n".join(names) + "\n") and None


# what is wrong -> (what makes it so, flags, exit code, parts of the message, parts of the hint)
BAD: Mapping[str, tuple[Callable[[Path], Any], list[str], int, list[str], list[str]]] = {
    "unknown method": (lambda photos: None, ["--method", "cop"], 2, ["'cop'"], ["coop"]),
    "empty class folder": (
        lambda photos: (photos / "train" / "yak").mkdir(),
        [],
        3,
        ["train/yak has no images"],
        ["remove"],
    ),
    "fewer images than shots": (
        lambda photos: [(photos / "train" / RED / f"{i}.png").unlink() for i in (0, 1)],
        [],
        3,
        ["fewer than 3 train images", "red fox"],
        ["--allow-fewer"],
    ),
    "truncated image": (truncate, ["--shots", "4"], 3, [f"train/{RED}/1.png"], []),
    "not an image inside": (scribble, ["--shots", "4"], 3, [f"train/{RED}/1.png"], []),
    "non-image file": (
        lambda photos: (photos / "train" / RED / "notes.pdf").write_text("x"),
        [],
        3,
        ["notes.pdf is not an image"],
        ["convert"],
    ),
    "duplicate class name": (
        lambda photos: shutil.copytree(photos / "train" / RED, photos / "train" / "red fox"),
        [],
        3,
        ["'red_fox'", "'red fox'"],
        ["--class-names"],
    ),
    "class name over the token limit": (
        name_file("red fox", "frog", "whale", "very " * 100 + "long"),
        ["--class-names", "names.txt"],
        3,
        ["the text of class 'very very", "the text tower reads 77"],
        ["--class-names"],
    ),
    "no data": (lambda photos: shutil.rmtree(photos), [], 3, ["photos"], []),
    "zero steps": (lambda photos: None, ["--max-steps", "0"], 2, ["0 steps"], []),
    "output in the way": (lambda photos: (photos.parent / "run").write_text("mine"), [], 3, ["run"], ["--out"]),
}


@pytest.mark.parametrize("case", BAD)
def test_train(case: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, flags, code, message, hint = BAD[case]
    spoil(photos)
    assert train(*flags) == code
    said = errors(capsys)
    assert all(part in said["error"] for part in message), said
    assert all(part in said.get("hint", "") for part in hint), said


def test_the_same_as_a_json_document(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truncate(photos)
    assert train("--shots", "4", "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False and document["command"] == "train"
    assert document["error"]["code"] == 3 and "1.png" in document["error"]["message"]


def test_fewer_images_may_be_allowed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "train" / RED / "0.png").unlink()
    (photos / "train" / RED / "1.png").unlink()
    assert train("--allow-fewer") == 0


def test_methods_without_a_loop_need_no_steps(photos: Path) -> None:
    assert train(method="zeroshot", steps="0", options=()) == 0


def test_after_a_broken_image_is_mended_training_goes_on(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image breaks between two steps; what had been learned is still there."""
    image = photos / "train" / RED / "0.png"
    whole = image.read_bytes()
    assert train("--shots", "4", steps="8") == 0
    wanted = Path("run/checkpoint.safetensors").read_bytes()

    with registered("breaking", Breaking):
        Breaking.act = staticmethod(lambda: [p.write_bytes(b"") for p in photos.glob("train/*/*.png")] and None)
        kept = {path: path.read_bytes() for path in photos.glob("train/*/*.png")}
        assert train("--shots", "4", "--force", method="breaking", steps="8") == 3
        assert ".png" in errors(capsys)["error"]
        assert Checkpoint.load(Path("run/checkpoint.safetensors")).header.position.total > 0
        for path, content in kept.items():
            path.write_bytes(content)
        Breaking.act = staticmethod(lambda: None)
        assert train("--shots", "4", "--resume", method="breaking", steps="8") == 0
    state = Checkpoint.load(Path("run/checkpoint.safetensors")).state["ctx"]
    assert image.read_bytes() == whole
    Path("coop.safetensors").write_bytes(wanted)
    assert (state == Checkpoint.load(Path("coop.safetensors")).state["ctx"]).all()


def test_ctrl_c_flushes_the_state_and_is_exit_130(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with registered("breaking", Breaking):
        Breaking.act = staticmethod(lambda: os.kill(os.getpid(), signal.SIGINT))
        assert train(method="breaking", steps="8") == 130
        said = errors(capsys)
        assert "stopped after step 3 of 8" in said["error"] and "--resume" in said["hint"]
        assert Checkpoint.load(Path("run/checkpoint.safetensors")).header.position.total == 3
        Breaking.act = staticmethod(lambda: None)

        assert train("--lr", "0.5", "--resume", method="breaking", steps="8") == 3
        said = errors(capsys)
        assert "train.lr (0.002 -> 0.5)" in said["error"] and "--out" in said["hint"]
        assert train("--resume", method="breaking", steps="8") == 0


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_other_signals_flush_the_state_too(
    name: str, code: int, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with registered("breaking", Breaking):
        Breaking.act = staticmethod(lambda: os.kill(os.getpid(), getattr(signal, name)))
        assert train("--json", method="breaking", steps="8") == code
        Breaking.act = staticmethod(lambda: None)
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code and "stopped after step 3 of 8" in error["message"]
    assert Checkpoint.load(Path("run/checkpoint.safetensors")).header.position.total == 3


def test_numbers_gone_wrong(photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exploding, "gradient_only", False)
    with registered("exploding", Exploding):
        assert train(method="exploding", steps="8") == 3
    said = errors(capsys)
    assert "the loss is nan at step 5" in said["error"] and ".png" in said["error"] and "lr" in said["hint"]


def test_a_plugin_that_cannot_be_imported_is_fatal_only_for_its_own(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Source("broken", "broken", "1.0")
    host().methods.register("broken", target="no_such_module:Method", source=broken)
    try:
        assert train(method="broken", options=()) == 4
        assert "no_such_module" in errors(capsys)["error"]
        assert train() == 0
    finally:
        host().methods.withdraw(broken)


def test_evaluate_without_a_run(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate"]) == 3
    assert "vlmprompt train" in errors(capsys)["hint"]
    assert main(["evaluate", "photos"]) == 3
    assert "photos is not a run" in errors(capsys)["error"]


def test_a_test_image_that_broke_after_training(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    (photos / "test" / RED / "1.png").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["evaluate", "run", "--workers", "0"]) == 5
    captured = capsys.readouterr()
    assert "1.png" in captured.out + captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "show", "{}"),
        ("data", "show", "hf:{}"),
        ("data", "show", "wds:{{0..3}}{}.tar"),
        ("reproduce", "{}.toml"),
        ("evaluate", "{}"),
        ("report", "{}"),
    ],
)
def test_a_name_that_no_system_has(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument.format("x" * 5000) for argument in arguments]) == 3
    shown = errors(capsys)
    assert shown["error"].startswith("File name too long: ") and len(shown["error"]) < 120
    assert shown["hint"] == "give a shorter name"
