"""Runs as class embeddings and as folders of open_clip: the run's numbers from open_clip alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import PIL
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from tests.backbones.own_towers import OwnLoader
from tests.backbones.serving import image_backbone
from tests.export.tables import frozen
from tests.tiny_architectures import register
from tests.training.material import config, runtime
from vlmprompt.api import Backbone, load_backbone
from vlmprompt.backbones.openclip import saved
from vlmprompt.backbones.openclip.saved import save_model
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.export import to_open_clip
from vlmprompt.export.linear_head import read_head
from vlmprompt.export.trial import noise
from vlmprompt.export.work import export_run
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import MethodOutput
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

ROOT = Path(__file__).parents[2]
NAMES = ["cat", "red panda", "oak"]


def read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of class embeddings says, and its tensors."""
    with safe_open(file, "pt") as opened:
        assert list(opened.metadata()) == ["vlmprompt"]
        return json.loads(opened.metadata()["vlmprompt"]), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def pixels(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(4))


def test_class_embeddings_over_open_clips_features_give_the_runs_logits(
    coop_run: Run, tiny_backbone: Backbone, tiny_model: Any, tmp_path: Path
) -> None:
    done = export_run(coop_run, "safetensors", tmp_path / "x.safetensors", backbone=tiny_backbone)
    said, head = read(done.files[0])
    assert {name: tuple(tensor.shape) for name, tensor in head.items()} == {
        "classes": (4, 32),
        "scale": (),
        "bias": (4,),
    }
    assert said["features"] == "unit" and json.loads(said["class_names"]) == list(coop_run.class_names)
    assert json.loads(said["preprocess"])["size"] == [32, 32] and said["checkpoint_digest"] == coop_run.digest
    with torch.no_grad():
        features = tiny_model.encode_image(pixels(), normalize=True)
        expected = coop_run.build_method(tiny_backbone)(pixels()).logits
    torch.testing.assert_close(head["scale"] * features @ head["classes"].T + head["bias"], expected, rtol=0, atol=1e-5)
    again = export_run(coop_run, "safetensors", tmp_path / "y.safetensors", backbone=tiny_backbone)
    assert again.files[0].read_bytes() == done.files[0].read_bytes()


def test_the_four_lines_of_the_docs(
    coop_run: Run,
    tiny_backbone: Backbone,
    tiny_model: Any,
    pictures_of_every_make: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export_run(coop_run, "safetensors", tmp_path / "flowers.safetensors", backbone=tiny_backbone)
    photo = pictures_of_every_make[0]
    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) == 4
    preprocess = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(size=32), is_train=False)
    space = {"model": tiny_model, "preprocess": preprocess, "safetensors": safetensors, "PIL": PIL}
    exec(compile(code, "docs/export.md", "exec"), space)
    expected = coop_run.classifier(tiny_backbone)(photo).logits_BK
    torch.testing.assert_close(space["logits"], expected, rtol=0, atol=1e-5)


def test_the_embeddings_of_zero_shot_are_those_of_its_texts(tiny_backbone: Backbone, tiny_model: Any) -> None:
    subject = build_method("zeroshot", tiny_backbone, NAMES, {"template": "a photo of a {}."}).frozen()
    head, found = read_head(subject, "zeroshot", pixels())
    texts = open_clip.SimpleTokenizer()([f"a photo of a {name}." for name in NAMES])
    with torch.no_grad():
        expected = tiny_model.encode_text(texts, normalize=True)
    torch.testing.assert_close(head.classes_Kd, expected, rtol=0, atol=1e-6)
    assert head.scale == pytest.approx(float(tiny_model.logit_scale.exp())) and head.normalized
    assert head.bias_K.abs().max() < 1e-6 and found.absolute < 1e-5


@pytest.mark.parametrize("method", ["proda", "descriptions", "locoop", "kgcoop"])
def test_methods_of_several_prompts_are_one_matrix(method: str) -> None:
    subject = frozen(method, image_backbone("vit"))
    head, found = read_head(subject, method, noise(subject.method.backbone, 3))
    assert head.classes_Kd.shape == (2, 48) and found.absolute < 1e-5


def test_the_linear_probe_is_a_matrix_over_raw_features() -> None:
    subject = frozen("linear_probe", image_backbone("vit"))
    head, found = read_head(subject, "linear_probe", noise(subject.method.backbone, 3))
    assert not head.normalized and head.scale == 1.0 and found.absolute < 1e-6
    torch.testing.assert_close(head.classes_Kd, subject.method.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.bias_K, subject.method.bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("bloom", "its image tower reads learned prompt tokens, which the plain tower lacks"),
        ("vpt", "its image tower reads learned prompt tokens"),
        ("cocoop", "the text of its classes depends on the image"),
        ("gallop", "its logits depend on more of an image than its global feature"),
        ("plot", "its logits depend on more of an image than its global feature"),
        ("dual_pt", "its logits depend on more of an image than its global feature"),
    ],
)
def test_what_is_no_matrix_is_refused(method: str, reason: str) -> None:
    subject = frozen(method, image_backbone("vit"))
    with pytest.raises(CapabilityError, match=f"method {method} is no matrix of class embeddings: {reason}") as caught:
        read_head(subject, method, noise(subject.method.backbone, 3))
    assert "--to onnx" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["gallop", "plot", "dual_pt"])
def test_images_that_are_all_alike_hide_nothing(method: str) -> None:
    subject = frozen(method, image_backbone("vit"))
    with pytest.raises(CapabilityError, match="its logits depend on more of an image than its global feature"):
        read_head(subject, method, noise(subject.method.backbone, 1).repeat(3, 1, 1, 1))


class Bent(CoOp):
    """Its cosines are bent, of which nothing tells but the logits."""

    def classify(self, *args: Any, **options: Any) -> MethodOutput:
        """Squares of the cosines."""
        output = super().classify(*args, **options)
        return MethodOutput(output.logits * output.logits.abs(), output.scale)


def test_a_method_is_tried_and_not_believed(tiny_backbone: Backbone) -> None:
    config_ = build_method("coop", tiny_backbone, NAMES).config
    subject = Bent(tiny_backbone, NAMES, config_).frozen()
    with pytest.raises(CapabilityError, match="its logits are no linear function of the image feature"):
        read_head(subject, "bent", pixels())


@pytest.fixture(scope="module")
def folder_run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """CoOp on an architecture that open_clip knows, of random weights, for images of another size."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = register(tmp_path_factory.mktemp("architectures"), patch)
        settings = config(class_folders, backbone=tiny, random_weights=0, image_size=(48, 48), exif=False)
        yield load_run(train(settings, runtime(tmp_path_factory.mktemp("runs"))).run)


def test_open_clip_loads_the_folder_and_its_readme_works(
    folder_run: Run, pictures_of_every_make: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "model"
    done = export_run(folder_run, "open_clip", place)
    assert done.files == (place,) and done.difference < 1e-4
    assert sorted(file.name for file in place.iterdir()) == [
        "README.md",
        "classes.safetensors",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{place}")
    _, head = read(place / "classes.safetensors")
    classifier = folder_run.classifier()
    with torch.no_grad():
        images = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
        features = F.normalize(model.eval().encode_image(images), dim=-1)
        expected = classifier.frozen(images).logits
    torch.testing.assert_close(head["scale"] * features @ head["classes"].T + head["bias"], expected, rtol=0, atol=1e-5)
    assert open_clip.get_tokenizer(f"local-dir:{place}")(["a fox"]).shape == (1, 77)
    assert load_backbone(f"local-dir:{place}").digest == folder_run.load_backbone().digest

    (code,) = re.findall(r"```python\n(.*?)```", (place / "README.md").read_text(), re.DOTALL)
    picture = pictures_of_every_make[0]
    code = code.replace("FOLDER", str(place)).replace("photo.jpg", str(picture))
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    name, probability = capsys.readouterr().out.rsplit(maxsplit=1)
    (top,) = classifier(picture).top(1)
    assert list(top) == [name] and float(probability) == pytest.approx(top[name], abs=1e-5)


def test_only_an_older_export_is_replaced_as_a_folder(
    folder_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, towers = tmp_path / "model", folder_run.load_backbone()

    def refused(reason: str, *, force: bool = True) -> None:
        with pytest.raises(InputError, match=reason):
            export_run(folder_run, "open_clip", place, backbone=towers, force=force)

    place.mkdir()
    (place / "open_clip_config.json").write_text("{}")
    refused("is there already", force=False)
    refused("it is no export of vlmprompt")  # but some model of open_clip
    (place / "classes.safetensors").touch()
    (place / "mine.txt").write_text("mine")
    refused("it holds mine.txt, which no export has put there")
    assert (place / "mine.txt").read_text() == "mine"
    (place / "mine.txt").unlink()
    (place / "special_tokens_map.json").touch()  # of the tokenizer that another export had
    with monkeypatch.context() as patch:
        patch.chdir(place)
        refused("is the working directory, or holds it")
    export_run(folder_run, "open_clip", place, backbone=towers, force=True)
    assert not (place / "special_tokens_map.json").exists() and (place / "classes.safetensors").stat().st_size
    export_run(folder_run, "open_clip", place, backbone=towers, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_says_something_else_is_not_kept(
    folder_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = to_open_clip.features_by_open_clip
    monkeypatch.setattr(to_open_clip, "features_by_open_clip", lambda *args: right(*args).flip(0))
    with pytest.raises(InputError, match=r"the folder for open_clip of run .* gives other logits"):
        export_run(folder_run, "open_clip", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_folder(folder_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tmp_path / "model"
    older.mkdir()
    (older / "open_clip_config.json").write_text("older")
    (older / "classes.safetensors").touch()

    def full(*_: object) -> None:  # as safetensors says it
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(saved, "save_file", full)
    with pytest.raises(InputError, match=r"cannot write .*model: No space left on device"):
        export_run(folder_run, "open_clip", older, force=True)
    assert (older / "open_clip_config.json").read_text() == "older"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model"]


def test_what_a_killed_export_left_is_removed_when_it_is_old(
    coop_run: Run, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    old, fresh = (tmp_path / f".{sign * 16}.vlmprompt-part" for sign in "ab")
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "half").touch()
    os.utime(old, (0, 0))
    export_run(coop_run, "safetensors", tmp_path / "x.safetensors", backbone=tiny_backbone)
    assert sorted(file.name for file in tmp_path.iterdir()) == [fresh.name, "x.safetensors"]


@pytest.mark.parametrize("spec", ["doodle-clip", "doodle-clip-rn"])
def test_the_built_in_models_are_models_of_open_clip(spec: str, tmp_path: Path) -> None:
    backbone = load_backbone(spec)
    save_model(backbone, tmp_path)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    images = noise(backbone, 2)
    with torch.no_grad():
        expected = backbone.encode_image(images).global_Bd
        torch.testing.assert_close(model.eval().encode_image(images), expected, rtol=1e-5, atol=1e-5)


def test_towers_of_others_are_refused(tiny_backbone: Backbone, tmp_path: Path) -> None:
    own = OwnLoader().load("own-towers", device="cpu", precision="fp32")
    with pytest.raises(CapabilityError, match="the towers of backbone 'own-towers' are none of open_clip's"):
        save_model(own, tmp_path)
    with pytest.raises(CapabilityError, match="nothing describes the towers of backbone 'tiny-vit' to open_clip"):
        save_model(tiny_backbone, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_of_files_that_are_none(coop_run: Run, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a file \*.safetensors"):
        export_run(coop_run, "safetensors", tmp_path / "x.onnx", backbone=tiny_backbone)
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(InputError, match="is a folder; an export to safetensors is a file"):
        export_run(coop_run, "safetensors", tmp_path / "x.safetensors", backbone=tiny_backbone)
    with pytest.raises(InputError, match=r"checkpoint.safetensors is not replaced: it is no export of vlmprompt"):
        export_run(
            coop_run, "safetensors", coop_run.path / "checkpoint.safetensors", backbone=tiny_backbone, force=True
        )
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; an export to open_clip is a folder"):
        export_run(coop_run, "open_clip", tmp_path / "file", backbone=tiny_backbone)
