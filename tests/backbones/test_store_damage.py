"""Stored features: whatever happened to a file, the numbers are those of the images."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tests.backbones.test_features import Reader
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.cached import CachedFeatures
from vlmprompt.backbones.features import extract
from vlmprompt.backbones.store import shard
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record
from vlmprompt.progress import SilentProgress

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return [Record(f"{i}.png", i % 2, folder / f"{i}.png") for i in range(4)]


Read = Callable[[], tuple[CachedFeatures, list[str]]]


@pytest.fixture
def read(tiny_backbone: Backbone, records: list[Record], tmp_path: Path) -> Read:
    """Features of the records, all read, and the warnings on the way, by a store in `tmp_path/cache`."""

    def act() -> tuple[CachedFeatures, list[str]]:
        progress, runtime = SilentProgress(), Runtime(device="cpu", workers=0, feature_cache=tmp_path / "cache")
        found = extract(Reader(), records, backbone=tiny_backbone, runtime=runtime, progress=progress)
        assert len(found.features) == len(records)
        return found, progress.warnings

    return act


def only(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def saved(change: Callable[[Tensors], None], *, with_header: bool = True) -> Callable[[Path], None]:
    """Damage that changes tensors and leaves the header as it was."""

    def act(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            tensors, header = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
        change(tensors)
        save_file(tensors, path, header if with_header else None)

    return act


def set_to(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return saved(lambda tensors: tensors.update({name: change(tensors[name]).contiguous()}))


def with_nan(t: torch.Tensor) -> torch.Tensor:
    t[1, 2] = float("nan")
    return t


def header_without_tensors(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"vlmprompt": json.dumps(["no", "table"])})


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)


def pipe_in_its_place(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    path.unlink()
    os.mkfifo(path)


def of_another_key(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        tensors, header = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, {"vlmprompt": header["vlmprompt"].replace('"key": "', '"key": "0')})


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "random bytes": (lambda path: path.write_bytes(np.random.default_rng(1).bytes(3000)), "cannot be read"),
    "a folder": (folder_in_its_place, "cannot be read"),
    "a named pipe": (pipe_in_its_place, r"cannot be read \(it is a named pipe, not a file\)"),
    "a dangling link": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "cannot be read"),
    "no header": (saved(lambda tensors: None, with_header=False), "have no header of this version"),
    "another header": (header_without_tensors, "have no header of this version"),
    "another key": (of_another_key, "are of other images, towers or settings"),
    "another width": (set_to("global", lambda t: t[:, :31]), r"global is float32 \(4, 31\), not float32 \(4, 32\)"),
    "half precision": (set_to("global", lambda t: t.half()), r"global is float16 \(4, 32\), not float32"),
    "rows missing": (set_to("global", lambda t: t[:3]), r"global is float32 \(3, 32\)"),
    "no tensor": (saved(lambda tensors: (tensors.pop("global"), tensors.update(x=torch.ones(4)))), "global is missing"),
    "one tensor more": (saved(lambda tensors: tensors.update(x=torch.ones(4))), "x is not named there"),
    "NaN": (set_to("global", with_nan), "the content of global is not that of its digest"),
    "rows exchanged": (set_to("global", lambda t: t.flip(0)), "the content of global is not that of its digest"),
    "one bit": (flip_one_bit, "the content of global is not that of its digest"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_moved_aside_and_made_anew(read: Read, tmp_path: Path, kind: str) -> None:
    harm, words = DAMAGE[kind]
    first, _ = read()
    path = only(tmp_path / "cache")
    harm(path)
    shard._verified.clear()
    found, warnings = read()
    assert len(warnings) == 1
    assert torch.equal(found.features.global_Bd, first.features.global_Bd) and found.labels.tolist() == [0, 1, 0, 1]
    assert str(path) in warnings[0] and re.search(words, warnings[0])
    aside = path.with_name(f"{path.name}.damaged")
    assert f"moved to {aside.name}; they are computed anew" in warnings[0] and os.path.lexists(aside)
    again, warnings = read()
    assert again.source == str(path.parent) and warnings == []
    assert torch.equal(again.features.global_Bd, first.features.global_Bd)


def test_what_was_moved_aside_before_is_kept(read: Read, tmp_path: Path) -> None:
    read()
    path = only(tmp_path / "cache")
    for content in (b"one", b"two"):
        path.write_bytes(content)
        read()
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"one"
    assert path.with_name(f"{path.name}.damaged-2").read_bytes() == b"two"


def test_a_damaged_file_that_cannot_be_moved_is_replaced(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read()
    path = only(tmp_path / "cache")
    path.write_bytes(b"damaged")

    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if "damaged" in target.name:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    _, warnings = read()
    assert "left there, as it cannot be moved (Permission denied)" in warnings[0]
    assert read()[1] == [] and read()[0].source == str(path.parent)


def test_all_bytes_are_read_once_a_process_and_again_when_the_file_has_changed(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read()
    shard._verified.clear()
    digests: list[str] = []
    digest = shard.tensors_digest
    monkeypatch.setattr(shard, "tensors_digest", lambda named: digests.append(digest(named)) or digests[-1])
    for _ in range(3):
        assert read()[1] == []
    assert len(digests) == 1
    set_to("global", lambda t: t + 1)(only(tmp_path / "cache"))
    assert "digest" in read()[1][0]


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_space_in_rust(*_: object, **__: object) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "refuse"),
    [
        ("vlmprompt.backbones.store.shard.save_file", no_space),
        ("vlmprompt.backbones.store.shard.save_file", no_space_in_rust),
        ("os.fsync", no_space),
        ("os.replace", no_space),
    ],
)
def test_a_full_disk_stops_no_run(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, refuse: Callable[..., None]
) -> None:
    monkeypatch.setattr(where, refuse)
    found, warnings = read()
    assert found.source == "computed" and found.features.global_Bd.shape == (4, 32)
    (warning,) = warnings
    assert "are not kept" in warning and "No space left on device" in warning and "goes on" in warning
    del found
    assert not (tmp_path / "cache").exists()  # as nothing was there before


def test_a_cache_that_is_a_file_stops_no_run(read: Read, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    found, warnings = read()
    assert found.source == "computed" and "are not kept" in warnings[0]
    assert (tmp_path / "cache").read_text() == "mine"


def test_the_file_is_on_disk_before_it_has_its_name(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, call=call: (done.append(name), call(*a))[1])
    read()
    assert done == ["fsync", "replace", "fsync"] * 2  # of the list of who reads what, and of the file
