"""The training loop, its loss and what it writes, on a miniature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from pretraining.bank import Plain, build_bank
from pretraining.captions import vocabulary
from pretraining.export import read_text, write_image_tower, write_text
from pretraining.model import (
    Words,
    build,
    contrastive_loss,
    encode_images,
    encode_texts,
    joint_positives,
    some_patches,
)
from pretraining.scenes import Scenes
from pretraining.train import Recipe, read_log, train
from vlmprompt.doodles.clip.parts import IDS, ROWS, token_table

RECIPE = Recipe(seed=0, steps=3, batch=12, warmup=2, full_from=0.7)
TEXTS = ("a photo of a frog.", "two red stars above a blue square", "an animal with long hind legs")


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(build_bank(0, 1, 16, Plain()), Plain(), 0)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(vocabulary())


def losses(folder: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(folder / "log.jsonl")]


@pytest.fixture(scope="module")
def trained(scenes: Scenes, words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("trained")
    model = build("vit", len(words.ids), 0)
    train(model, words, scenes, RECIPE, folder)
    return model, folder


def test_same_seed_same_bytes(trained: tuple[Any, Path], scenes: Scenes, words: Words, tmp_path: Path) -> None:
    again = build("vit", len(words.ids), 0)
    train(again, words, scenes, RECIPE, tmp_path)
    assert losses(tmp_path) == losses(trained[1])
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), trained[0].parameters(), strict=True))


def test_log_has_a_line_a_step_and_starts_at_chance(trained: tuple[Any, Path]) -> None:
    log = losses(trained[1])
    assert [line["step"] for line in log] == [0, 1, 2]
    assert abs(log[0]["loss"] - math.log(RECIPE.batch)) < 1
    assert log[0]["scale"] == pytest.approx(1 / 0.07, rel=1e-2)


def test_resumed_training_is_the_same(
    trained: tuple[Any, Path], scenes: Scenes, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretraining.train._SAVE_EVERY_S", 0.0)
    batch = scenes.batch

    def stop_at_two(i: int, size: int) -> Any:
        if i == 2:
            raise KeyboardInterrupt
        return batch(i, size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scenes, "batch", stop_at_two)
        train(build("vit", len(words.ids), 0), words, scenes, RECIPE, tmp_path)
    resumed = build("vit", len(words.ids), 1)
    train(resumed, words, scenes, RECIPE, tmp_path)
    assert losses(tmp_path) == losses(trained[1])
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), trained[0].parameters(), strict=True))


def test_state_of_another_recipe_is_refused(trained: tuple[Any, Path], scenes: Scenes, words: Words) -> None:
    with pytest.raises(ValueError, match="another recipe"):
        train(build("vit", len(words.ids), 0), words, scenes, Recipe(seed=1, steps=3), trained[1])


def test_resnet_learns_against_a_frozen_text_tower(scenes: Scenes, words: Words, tmp_path: Path) -> None:
    model = build("resnet", len(words.ids), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = Recipe(seed=0, steps=1, batch=8, keep=1.0, frozen_text=True)
    train(model, words, scenes, recipe, tmp_path)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(("visual.", "logit_scale")) for name in changed)
    assert "visual.bn1.running_mean" in changed


def test_encoders_are_open_clips(words: Words) -> None:
    model = build("vit", len(words.ids), 0).eval()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pixels = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.allclose(encode_images(model, images), model.encode_image(pixels, normalize=True), atol=1e-5)
    rows = [words.rows(text) for text in TEXTS]
    padded = torch.tensor([row + [0] * (77 - len(row)) for row in rows])  # the end-of-text row is the largest
    assert torch.allclose(encode_texts(model, rows), model.encode_text(padded, normalize=True), atol=1e-5)


def test_dropped_patches_are_not_seen(words: Words) -> None:
    model = build("vit", len(words.ids), 0).eval()
    kept_BP = some_patches(2, 0.5, torch.Generator().manual_seed(0))
    assert kept_BP.shape == (2, 32)
    assert all(len(set(row.tolist())) == 32 for row in kept_BP)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    hidden = torch.ones(2, 64, dtype=torch.bool).scatter(1, kept_BP, False).view(2, 1, 8, 8)
    other = torch.where(hidden.repeat_interleave(8, 2).repeat_interleave(8, 3), torch.zeros(()), images)
    assert torch.allclose(encode_images(model, images, kept_BP), encode_images(model, other, kept_BP), atol=1e-6)
    assert not torch.allclose(encode_images(model, images), encode_images(model, other), atol=1e-3)


def test_joint_positives_and_loss_by_hand() -> None:
    target = joint_positives(["a cat", "cat", "a star", "a star"], ["cat", "cat", None, None])
    assert target.tolist() == [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]
    image, text = (
        F.normalize(torch.tensor([[1.0, 0.0], [0.6, 0.8]])),
        F.normalize(torch.tensor([[0.0, 1.0], [1.0, 0.0]])),
    )
    loss = contrastive_loss(image, text, torch.tensor(2.0), torch.eye(2))
    logits = [[0.0, 2.0], [1.6, 1.2]]
    rows = [math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(logits)]
    columns = [math.log(sum(math.exp(row[i]) for row in logits)) - logits[i][i] for i in (0, 1)]
    assert loss.item() == pytest.approx((sum(rows) + sum(columns)) / 4, rel=1e-5)


def test_written_files_hold_the_model(trained: tuple[Any, Path], words: Words, tmp_path: Path) -> None:
    model = trained[0]
    write_text(model, words.ids, tmp_path)
    write_image_tower(model, "vit", tmp_path)
    text, vit = load_file(tmp_path / "text.safetensors"), load_file(tmp_path / "vit.safetensors")
    assert text[IDS].tolist() == words.ids
    assert text[ROWS].dtype == torch.float16
    ids = torch.tensor(words.ids)
    table_VD = token_table(ids, text[ROWS].float(), text["token_rows.mean"], text["token_rows.spread"])
    assert torch.allclose(table_VD[ids], model.token_embedding.weight, atol=1e-3)
    both = {name for part in (text, vit) for name in part if not name.startswith("token_rows")}
    assert both == set(model.state_dict()) - {"token_embedding.weight"}
    again = tmp_path / "again"
    again.mkdir()
    write_text(model, words.ids, again)
    assert (again / "text.safetensors").read_bytes() == (tmp_path / "text.safetensors").read_bytes()


def test_a_resnet_starts_from_the_written_text_tower(trained: tuple[Any, Path], words: Words, tmp_path: Path) -> None:
    write_text(trained[0], words.ids, tmp_path)
    write_image_tower(trained[0], "vit", tmp_path)
    model = build("resnet", len(words.ids), 1)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("visual.")}
    read_text(model, words.ids, tmp_path)
    want = {n: t.half().float() for n, t in trained[0].state_dict().items() if not n.startswith("visual.")}
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in (want | own).items())
    with pytest.raises(ValueError, match="another vocabulary"):
        read_text(model, words.ids[:-1], tmp_path)


def test_log_lines_are_json(trained: tuple[Any, Path]) -> None:
    for line in (trained[1] / "log.jsonl").read_text(encoding="utf-8").splitlines():
        assert {"step", "loss", "accuracy", "scale", "seconds"} == json.loads(line).keys()
