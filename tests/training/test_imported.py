"""Published checkpoints: read as data alone, and made runs of."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.methods.build import build_method
from vlmprompt.training.foreign import read_foreign
from vlmprompt.training.imported import import_run
from vlmprompt.training.runs import load_run

NAMES = ("blue whale", "green frog", "grey wolf", "red fox")
OPTIONS = {"topk": [1, 2, 3, 4]}


def published(backbone: Backbone, n_global: int = 4) -> dict[str, Any]:
    """What GalLoP's code saves: the trained tensors, the optimiser, meters, and its command line.

    The kinds of entries are those that the method specification states; a file of the authors' was not at hand.
    """
    method = build_method("gallop", backbone, NAMES, OPTIONS | {"n_global": n_global})
    generator = torch.Generator().manual_seed(3)
    for parameter in method.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.002, momentum=0.9)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    method.loss(method(images), torch.tensor([0, 1])).total.backward()
    optimizer.step()
    return {
        "epoch": 50,
        "state_dict": method.trainable_state(),
        "optimizer": optimizer.state_dict(),
        "meters": {"loss": 1.5, "top1": 0.75},
        "args": argparse.Namespace(dataset_name="imagenet", topk=[5, 10, 15, 20], use_local_features=True, seed=1),
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("imported") / "photos", splits={"train": 2, "test": 3})


@pytest.fixture
def checkpoint(tiny_backbone: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "gallop.pt"
    torch.save(published(tiny_backbone), path)
    return path


def settings(photos: Path, **options: Any) -> Any:
    base = config(photos, method="zeroshot").model_copy(update={"method": "gallop", "shots": 16})
    return base.model_copy(update={"options": OPTIONS | options})


def test_a_published_checkpoint_becomes_a_run(
    photos: Path, checkpoint: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    where = runtime(tmp_path / "runs")
    run = import_run(settings(photos), checkpoint, where, backbone=tiny_backbone)
    assert run.name == "gallop-photos-tiny-vit-16shot-seed1-imported"
    method = load_run(run).build_method(tiny_backbone)
    state = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in method.trainable_state().items())
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    own = build_method("gallop", tiny_backbone, method.class_names, OPTIONS).eval()
    own.load_state_dict(state)
    assert torch.equal(method(images).logits, own(images).logits)
    info = json.loads((run / "run.json").read_text())
    assert info["imported"]["file"] == "gallop.pt" and info["data"]["train_ids"] == []
    assert "imported from gallop.pt" in (run / "MODEL_CARD.md").read_text()


def test_it_is_evaluated_like_any_other(
    photos: Path, checkpoint: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    run = import_run(settings(photos), checkpoint, runtime(tmp_path / "runs"), backbone=tiny_backbone)
    other = {"ood": [f"folder:{photos / 'train' / 'red_fox'}"]}
    rows = evaluate(
        run, ["accuracy", "ood"], runtime(tmp_path), companions=other, reference=False, backbone=tiny_backbone
    )
    assert {r.status for r in rows} == {"ok"}
    assert {"test", "red_fox/gl-mcm"} <= {r.cell for r in rows}
    assert {(r.method, r.shots, r.seed) for r in rows} == {("gallop", 16, 1)}


def test_its_checkpoint_is_its_own(photos: Path, checkpoint: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    where = runtime(tmp_path / "runs")
    first = import_run(settings(photos), checkpoint, where, backbone=tiny_backbone)
    assert load_run(first).info.checkpoint == load_run(first).digest
    content = published(tiny_backbone)
    content["state_dict"]["global_prompt"] += 1
    torch.save(content, checkpoint)
    other = import_run(settings(photos), checkpoint, where, out=tmp_path / "other", backbone=tiny_backbone)
    shutil.copy(other / "checkpoint.safetensors", first / "checkpoint.safetensors")
    with pytest.raises(InputError, match=r"is not what the training of .*-imported ended with"):
        load_run(first).build_method(tiny_backbone)
    assert sorted(file.name for file in first.iterdir()) == ["MODEL_CARD.md", "checkpoint.safetensors", "run.json"]


def test_importing_twice(photos: Path, checkpoint: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    where = runtime(tmp_path / "runs")
    run = import_run(settings(photos), checkpoint, where, backbone=tiny_backbone)
    before = (run / "run.json").read_bytes()
    assert import_run(settings(photos), checkpoint, where, backbone=tiny_backbone) == run
    assert (run / "run.json").read_bytes() == before
    content = published(tiny_backbone)
    content["state_dict"]["global_prompt"] += 1
    torch.save(content, checkpoint)
    with pytest.raises(InputError, match="holds another run"):
        import_run(settings(photos), checkpoint, where, backbone=tiny_backbone)


@pytest.mark.parametrize(
    ("value", "reason"),
    [([1.0, 2.0], "'global_prompt' of the checkpoint is a list"), (torch.tensor(float("nan")), "holds NaN")],
)
def test_values_that_are_no_finite_tensors(
    photos: Path, checkpoint: Path, tiny_backbone: Backbone, tmp_path: Path, value: Any, reason: str
) -> None:
    content = published(tiny_backbone)
    content["state_dict"]["global_prompt"] = value
    torch.save(content, checkpoint)
    with pytest.raises(InputError, match=reason):
        import_run(settings(photos), checkpoint, runtime(tmp_path / "runs"), backbone=tiny_backbone)


def test_other_shapes_and_other_methods(
    photos: Path, checkpoint: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    def attempt(config: Any) -> Path:
        return import_run(config, checkpoint, runtime(tmp_path / "runs"), backbone=tiny_backbone)

    with pytest.raises(
        InputError, match=r"'global_prompt' has shape \(4, 4, 64\) in the checkpoint, \(6, 4, 64\) here"
    ):
        attempt(settings(photos, n_global=6))
    with pytest.raises(InputError, match="holds an unknown tensor 'local_proj"):
        attempt(settings(photos, learn_local_proj=False))
    with pytest.raises(CapabilityError, match="reads no checkpoints of other codes"):
        attempt(config(photos, method="zeroshot"))
    with pytest.raises(InputError, match=r"CoOp's code saves a tensor 'ctx'.* has global_prompt") as error:
        attempt(config(photos))
    assert error.value.hint == "such tensors are read by --method gallop"
    torch.save({"model": {}}, checkpoint)
    with pytest.raises(InputError, match="has a state_dict, this one has model"):
        attempt(settings(photos))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/run.json"))


class Harmful:
    """Pickles as a call of os.system."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.touched}",)


def test_what_could_run_code_is_refused_by_name(tmp_path: Path) -> None:
    path, touched = tmp_path / "bad.pt", tmp_path / "touched"
    for content, name in (
        ({"state_dict": Harmful(touched)}, "system"),
        ({"epoch": 3, "notify": functools.partial(print)}, "partial"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=rf"asks for .*{name}.*refused"):
            read_foreign(path)
    torch.save({"state_dict": Harmful(touched)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"refused|cannot be read"):
        read_foreign(path)
    assert not touched.exists()


def ours(act: Callable[[], object]) -> str:
    """What an error says, which must be of our own words, in one line."""
    with pytest.raises(InputError) as error:
        act()
    said = f"{error.value.message} {error.value.hint}"
    assert "weights_only" not in said and "torch.load" not in said and "PyTorch" not in said and "\n" not in said
    return error.value.message


OTHER_FILES = {
    "page": (b"<!DOCTYPE html><html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a Git LFS pointer"),
    "empty": (b"", "empty"),
    "text": (b"hello world", "text"),
    "array": (b"\x93NUMPY\x01\0v\0{'descr'", "a NumPy array"),
    "packed": (b"\x1f\x8b\x08\0\0", "compressed by gzip"),
    "noise": (bytes(range(200, 256)), "of an unknown kind"),
    "cut": (b"PK\x03\x04 not really", ".* that is not whole"),
    "pickled": (b"\x80\x04\x95\x0c\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.", "a pickle.*, damaged or with more in it"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_what_a_file_is_is_said_in_place_of_torchs_advice(tmp_path: Path, name: str) -> None:
    content, kind = OTHER_FILES[name]
    path = tmp_path / f"{name}.pt"
    path.write_bytes(content)
    assert re.search(rf"{name}\.pt cannot be read: it is {kind}", ours(lambda: read_foreign(path)))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_refusal_names_what_the_file_asks_for(tmp_path: Path, new_format: bool) -> None:
    path = tmp_path / "bad.pt"
    for content, name in (
        ({"a": Harmful(tmp_path)}, "system"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=new_format)
        assert re.search(rf"asks for .*{name}: refused", ours(lambda: read_foreign(path)))


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("program/data.pkl", "program/constants.pkl", "program/code/x.py"):
            archive.writestr(name, "")
    assert "program.pt is a TorchScript program: refused" in ours(lambda: read_foreign(path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("page", "cannot be read: it is a web page"),
        ("pointer", "cannot be read: it is a Git LFS pointer"),
        ("cut", "cannot be read: it is .* that is not whole"),
        ("pickled", "cannot be read: it is a pickle.* with more in it than tensors"),
    ],
)
def test_weights_of_a_backbone_that_are_none(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / f"{name}.pt"
    path.write_bytes(OTHER_FILES[name][0])
    spec = f"ViT-B-16/{path}"
    assert re.search(rf"{name}\.pt {words}", ours(lambda: load_backbone(spec, quick_gelu=False)))


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint"):
        read_foreign(tmp_path / "none.pt")
    for name in ("cut.pt", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
        with pytest.raises(InputError, match=rf"checkpoint .*{name} cannot be read|refused"):
            read_foreign(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds a list"):
        read_foreign(tmp_path / "list.pt")
    save_file({"ctx": torch.ones(2)}, tmp_path / "plain.safetensors")
    assert read_foreign(tmp_path / "plain.safetensors")["ctx"].tolist() == [1, 1]
