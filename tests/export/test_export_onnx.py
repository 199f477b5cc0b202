"""Runs as ONNX files: the run's numbers in onnxruntime, and pictures classified without vlmprompt and torch."""

from __future__ import annotations

import errno
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import vlmprompt
from tests.backbones.serving import image_backbone
from tests.export.tables import frozen, of_graph
from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.images import decode
from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.export import formats, graph
from vlmprompt.export.script import script
from vlmprompt.export.work import Exported, export_run
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

OLDER = "vlmprompt, as each of its ONNX files says at its beginning"
ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(["vlmprompt", "torch", "torchvision", "open_clip"]))  # whose import now fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def session(file: Path) -> Any:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def pixels(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def test_the_graph_gives_the_runs_logits_for_any_number_of_images(
    onnx_export: Exported, coop_run: Run, tiny_backbone: Backbone
) -> None:
    assert onnx_export.tried_on == f"6 test images of {coop_run.config.data}"
    assert 0 <= onnx_export.difference < 1e-4
    running, method = session(onnx_export.files[0]), coop_run.build_method(tiny_backbone)
    (given,), (gives,) = running.get_inputs(), running.get_outputs()
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(float)", ["batch", 3, 32, 32])
    assert (gives.name, gives.type, gives.shape) == ("logits", "tensor(float)", ["batch", 4])
    for count in (1, 2, 5):
        with torch.no_grad():
            expected = method(pixels(count)).logits
        (found,) = running.run(None, {"pixels": pixels(count).numpy()})
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)


def test_the_file_says_what_it_is(onnx_export: Exported, coop_run: Run, tiny_backbone: Backbone) -> None:
    said = session(onnx_export.files[0]).get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(coop_run.class_names)
    settings = tiny_backbone.preprocess
    assert json.loads(said["preprocess"]) == {
        "size": [32, 32],
        "mean": list(settings.mean),
        "std": list(settings.std),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "upright": True,
    }
    assert said["method"] == "coop" and json.loads(said["options"])["n_ctx"] == 2
    assert said["backbone_digest"] == tiny_backbone.digest and said["checkpoint_digest"] == coop_run.digest
    assert said["vlmprompt"] == vlmprompt.__version__ and "temperature" not in said
    model = onnx.load(onnx_export.files[0])
    onnx.checker.check_model(model)
    assert [(part.domain, part.version) for part in model.opset_import if not part.domain] == [("", graph.OPSET)]
    assert not any("token_embedding" in weight.name for weight in model.graph.initializer)  # the text tower stays out


@pytest.mark.long
@pytest.mark.usefixtures("traced_once")  # which is another tracing than that of `onnx_export`
def test_the_same_run_gives_the_same_bytes_without_paths_of_this_machine(
    onnx_export: Exported, coop_run: Run, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    again = export_run(coop_run, "onnx", tmp_path / "foxes.onnx", backbone=tiny_backbone)
    for one, other in zip(onnx_export.files, again.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    content = onnx_export.files[0].read_bytes()
    assert b".py" not in content and str(Path(vlmprompt.__file__).parent).encode() not in content


def test_the_script_classifies_pictures_without_vlmprompt_and_torch(
    onnx_export: Exported, coop_run: Run, tiny_backbone: Backbone, pictures_of_every_make: list[Path]
) -> None:
    program = onnx_export.files[1]
    assert program.name == "foxes_predict.py"
    command = [sys.executable, "-c", ALONE, str(program), *map(str, pictures_of_every_make)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = coop_run.classifier(tiny_backbone)(pictures_of_every_make)
    lines = done.stdout.splitlines()
    assert len(lines) == len(pictures_of_every_make)
    for line, path, name, row in zip(lines, pictures_of_every_make, expected.names, expected.top(1), strict=True):
        shown = line.split("  ")
        assert shown[:2] == [str(path), name]
        assert float(shown[2]) == pytest.approx(row[name], abs=6e-5)  # four digits are printed


def test_the_script_refuses_pictures_that_it_would_misread(onnx_export: Exported, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 4000, np.uint16)).save(tmp_path / "deep.png")  # Pillow: all white
    command = [sys.executable, onnx_export.files[1], tmp_path / "deep.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == f"{tmp_path / 'deep.png'}: grey levels of more than 8 bits; convert it to 8 bits\n"


def test_the_script_without_a_picture_says_how_it_is_called(onnx_export: Exported) -> None:
    done = subprocess.run([sys.executable, onnx_export.files[1]], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == "Classify pictures: python foxes_predict.py PICTURE ...\n"


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, 33, (48, 30)])
def test_the_script_prepares_pictures_as_the_run_does(
    size: int | tuple[int, int],
    mode: str,
    upright: bool,
    pictures_of_every_make: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = PreprocessConfig(size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bilinear" if size == 33 else "bicubic", mode)
    how = {"size": settings.sides, "mean": settings.mean, "std": settings.std, "interpolation": settings.interpolation}
    meta = SimpleNamespace(custom_metadata_map={"class_names": '["fox"]', "preprocess": json.dumps(how)})
    model = SimpleNamespace(get_modelmeta=lambda: meta, run=lambda *_: [np.zeros((1, 1), np.float32)])
    stand_in = SimpleNamespace(InferenceSession=lambda *_, **__: model)
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["x", str(pictures_of_every_make[0])])
    (tmp_path / "x.py").write_text(script("x.py", "x.onnx", settings, upright=upright))
    prepared = runpy.run_path(str(tmp_path / "x.py"))["pixels"]
    transform = build_transform(settings, train=False)
    for path in pictures_of_every_make:
        expected = transform(decode(path, path.name, upright=upright)).numpy()
        np.testing.assert_allclose(prepared(path)[0], expected, rtol=0, atol=1e-6, err_msg=path.name)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("eva02", "bloom"),  # prompts in every layer, rotary positions
        ("resnet", "gallop"),  # the best patches at several scales
    ],
)
def test_methods_and_towers_become_graphs(kind: str, method: str, tmp_path: Path) -> None:
    subject = frozen(method, image_backbone(kind))
    assert of_graph(subject, method, tmp_path).relative < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("method", ["plot", "dual_pt"])
def test_what_computes_as_long_as_the_image_wants_is_refused(method: str) -> None:
    reason = f"method {method} on .* cannot be written as one graph: how long it computes depends on the image"
    with pytest.raises(CapabilityError, match=reason) as caught:
        graph.traced(frozen(method, image_backbone("vit")), method, {})
    assert "classifier()" in str(caught.value.hint)


@pytest.mark.usefixtures("traced_once")
def test_weights_too_large_for_the_file_lie_beside_it(
    onnx_export: Exported,
    coop_run: Run,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "a" / "foxes.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(graph, "MOST_INSIDE", 1000)
        done = export_run(coop_run, "onnx", place, backbone=tiny_backbone)
    assert names(place.parent) == ["foxes.onnx", "foxes.onnx.data", "foxes_predict.py"]
    assert set(done.files) == set(place.parent.iterdir())
    shutil.move(place.parent, tmp_path / "moved")
    outputs = [
        session(file).run(None, {"pixels": pixels(2).numpy()})[0]
        for file in (tmp_path / "moved" / "foxes.onnx", onnx_export.files[0])
    ]
    np.testing.assert_array_equal(*outputs)
    export_run(coop_run, "onnx", tmp_path / "moved" / "foxes.onnx", backbone=tiny_backbone, force=True)
    assert names(tmp_path / "moved") == ["foxes.onnx", "foxes_predict.py"]


@pytest.mark.usefixtures("traced_once")
def test_a_file_that_says_something_else_is_not_kept(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "foxes.onnx"
    place.write_text(OLDER)
    right = graph.run
    # Wrong in batches of three alone.
    monkeypatch.setattr(graph, "run", lambda running, images: right(running, images) + 0.01 * (len(images) == 3))
    with pytest.raises(InputError, match=r"ONNX graph of run coop-.* gives other logits than the run, by 0\.01"):
        export_run(coop_run, "onnx", place, backbone=tiny_backbone, force=True)
    assert names(tmp_path) == ["foxes.onnx"] and place.read_text() == OLDER


@pytest.mark.usefixtures("traced_once")
def test_force_replaces_older_exports_alone(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    def export(name: str) -> None:
        export_run(coop_run, "onnx", tmp_path / name, backbone=tiny_backbone, force=True)

    (tmp_path / "a_b_predict.py").write_text("mine")
    with pytest.raises(InputError, match=r"a_b_predict.py is not replaced: it is no script of an export"):
        export("a-b.onnx")
    (tmp_path / "a_b_predict.py").unlink()
    export("a-b.onnx")
    export("a-b.onnx")
    with pytest.raises(InputError, match=r"a_b_predict.py is not replaced: it belongs to another ONNX file"):
        export("a_b.onnx")
    (tmp_path / "theirs.onnx").write_bytes(b"pytorch")
    with pytest.raises(InputError, match=r"theirs.onnx is not replaced: it is no export of vlmprompt"):
        export("theirs.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=r"pipe.onnx is not replaced: it cannot be read"):
        export("pipe.onnx")
    assert names(tmp_path) == ["a-b.onnx", "a_b_predict.py", "pipe.onnx", "theirs.onnx"]


@pytest.mark.usefixtures("traced_once")
def test_a_full_disk_leaves_what_was_there(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "foxes.onnx"
    place.write_text(OLDER)

    def full(program: Any, path: Path) -> bool:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(graph, "save", full)
    with pytest.raises(InputError, match=r"cannot write .*foxes.onnx: No space left on device"):
        export_run(coop_run, "onnx", place, backbone=tiny_backbone, force=True)
    assert names(tmp_path) == ["foxes.onnx"] and place.read_text() == OLDER


@pytest.mark.usefixtures("traced_once")
def test_a_temperature_goes_into_the_file(
    coop_run: Run, tiny_backbone: Backbone, pictures_of_every_make: list[Path], tmp_path: Path
) -> None:
    copied = load_run(shutil.copytree(coop_run.path, tmp_path / "run"))
    fitted = {"temperature": 0.25, "split": "val", "n": 3}
    (copied.path / "calibration.json").write_text(json.dumps(fitted | {"checkpoint": copied.digest}))
    done = export_run(copied, "onnx", tmp_path / "x.onnx", images=pictures_of_every_make[:2], backbone=tiny_backbone)
    assert done.temperature == 0.25 and done.tried_on == "2 pictures of --images"
    assert session(done.files[0]).get_modelmeta().custom_metadata_map["temperature"] == "0.25"
    path = pictures_of_every_make[0]
    ran = subprocess.run([sys.executable, done.files[1], path], check=True, capture_output=True, text=True)
    shown = float(ran.stdout.split()[-1])
    logits = copied.classifier(tiny_backbone)(path).logits_BK[0]
    assert shown == pytest.approx(float((4 * logits).softmax(dim=-1).max()), abs=6e-5)
    (copied.path / "calibration.json").write_text(json.dumps(fitted | {"checkpoint": "0" * 64}))
    with pytest.raises(InputError, match="was fitted for another checkpoint"):
        export_run(copied, "onnx", tmp_path / "y.onnx", backbone=tiny_backbone)
    (copied.path / "calibration.json").write_text('{"temperature": 0, "checkpoint": "x"}')
    with pytest.raises(InputError, match="is damaged"):
        export_run(copied, "onnx", tmp_path / "y.onnx", backbone=tiny_backbone)
    assert export_run(copied, "onnx", tmp_path / "y.onnx", calibrated=False, backbone=tiny_backbone).temperature is None


@pytest.mark.usefixtures("tiny_spec")
def test_a_run_in_half_precision_without_its_data_is_exported_in_full_and_silently(
    class_folders: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    photos = shutil.copytree(class_folders, tmp_path / "photos")
    run = load_run(train(config(photos, method="zeroshot", precision="bf16"), runtime(tmp_path)).run)
    shutil.rmtree(photos)
    capfd.readouterr()
    done = export_run(run, "onnx", tmp_path / "x.onnx")
    assert done.difference < 1e-4 and done.tried_on == "6 images of random pixels"
    assert capfd.readouterr() == ("", "") and not recwarn.list
    (found,) = session(done.files[0]).run(None, {"pixels": pixels(2).numpy()})
    with torch.no_grad():
        full = run.build_method(run.load_backbone(precision="fp32"))(pixels(2)).logits
        half = run.build_method(run.load_backbone())(pixels(2)).logits
    np.testing.assert_allclose(found, full.numpy(), rtol=0, atol=1e-5)
    assert (full - half).abs().max() > 1e-3


def test_what_cannot_be_exported_at_all(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = Run(coop_run.path, coop_run.info.model_copy(update={"status": "interrupted"}))
    with pytest.raises(InputError, match=r"is not finished \(interrupted\)"):
        export_run(unfinished, "onnx", tmp_path / "x.onnx", backbone=tiny_backbone)
    with pytest.raises(UsageError, match="nothing is exported to 'tflite'"):
        export_run(coop_run, "tflite", backbone=tiny_backbone)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        export_run(coop_run, "onnx", tmp_path / "x.onnx", backbone=tiny_backbone, images=[tmp_path / "empty"])
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(InputError, match="it is no image in a known format"):
        export_run(coop_run, "onnx", tmp_path / "x.onnx", backbone=tiny_backbone, images=[tmp_path / "no.png"])
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match="needs the package onnxscript, which is not installed") as caught:
        export_run(coop_run, "onnx", tmp_path / "x.onnx", backbone=tiny_backbone)
    assert caught.value.hint == 'pip install "vlmprompt[onnx]"'
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # type: ignore[arg-type]
    monkeypatch.setattr(formats, "find_spec", lambda name: name)  # installed, but its import fails
    with pytest.raises(InputError, match=r"the package onnxruntime, .*, cannot be loaded: import of onnxruntime"):
        export_run(coop_run, "onnx", tmp_path / "x.onnx", backbone=tiny_backbone)
    assert names(tmp_path) == ["empty", "no.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_told_at_once(coop_run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"cannot write .*mine: Permission denied"):
        export_run(coop_run, "onnx", tmp_path / "mine" / "x.onnx")


@pytest.mark.usefixtures("traced_once")
def test_pictures_of_one_kind_stand_for_three(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    done = export_run(coop_run, "onnx", tmp_path / "x.onnx", images=[tmp_path / "red.png"], backbone=tiny_backbone)
    assert done.tried_on == str(tmp_path / "red.png") and done.difference < 1e-4
