"""The built-in models: there offline, the recorded weights, and better than chance."""

from __future__ import annotations

import hashlib
import json
import warnings
from importlib.resources import files
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.doodles.clip.loader import DoodleClipLoader
from vlmprompt.doodles.clip.parts import token_table
from vlmprompt.doodles.pictures import picture
from vlmprompt.errors import UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.plugins import host

FOLDER = files("vlmprompt.doodles.clip")
SHIPPED = {"doodle-clip": "vit", "doodle-clip-rn": "resnet"}
NAMES = tuple(name for name, tower in SHIPPED.items() if (FOLDER / f"{tower}.safetensors").is_file())
SOME = ("banana", "butterfly", "lighthouse", "scissors", "octopus", "pencil", "house", "donut")


@pytest.fixture(scope="module")
def provenance() -> dict[str, Any]:
    return json.loads((FOLDER / "provenance.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def towers() -> dict[str, Backbone]:
    return {name: load_backbone(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_the_recorded_ones(name: str, towers: dict[str, Backbone], provenance: dict[str, Any]) -> None:
    assert towers[name].digest == provenance["digests"][name]
    assert towers[name].spec == towers[name].name == name


def test_files_are_the_recorded_ones_and_small(provenance: dict[str, Any]) -> None:
    total = 0
    for name, recorded in provenance["files"].items():
        content = (FOLDER / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == recorded["sha256"]
        total += len(content)
    assert 1e6 < total < 16e6


@pytest.mark.parametrize("name", NAMES)
def test_zero_shot_is_far_above_chance(name: str, towers: dict[str, Backbone]) -> None:
    tower = towers[name]
    text_Kd = F.normalize(tower.text.encode_template("a photo of a {}.", SOME), dim=-1)
    transform = tower.transform(train=False)
    shown = [transform(picture(cls, i, split="val").image) for cls in SOME for i in range(3)]
    image_Nd = F.normalize(tower.encode_image(torch.stack(shown)).global_Bd, dim=-1)
    hits = (image_Nd @ text_Kd.T).argmax(1).eq(torch.arange(len(SOME)).repeat_interleave(3))
    assert hits.float().mean() > 3 / len(SOME)


def test_what_is_shipped_is_registered() -> None:
    assert "doodle-clip" in NAMES
    assert {name for name in host().backbones.names() if name.startswith("doodle")} == set(NAMES)


def test_shapes_and_scale(towers: dict[str, Backbone]) -> None:
    vit = towers["doodle-clip"]
    assert (vit.preprocess.size, vit.vision.n_local, vit.text.context_length) == (64, 64, 77)
    assert 15 < vit.scale < 30


def test_the_resnet_has_five_by_five_local_features() -> None:
    load = DoodleClipLoader().load
    resnet = load("doodle-clip-rn", device="cpu", precision="fp32", quick_gelu=None, random_weights=0)
    assert (resnet.preprocess.size, resnet.vision.n_local, resnet.is_vit) == (160, 25, False)
    features = resnet.encode_image(torch.zeros(2, 3, 160, 160), ImageNeeds(local="tokens"))
    assert features.global_Bd.shape == (2, 192)
    assert features.local_BNc is not None
    assert features.local_BNc.shape == (2, 25, 192)


def test_unused_rows_are_the_same_everywhere_and_unlike_each_other() -> None:
    ids, rows = torch.tensor([0, 7]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    mean, spread = torch.tensor([0.5, -1.0]), torch.tensor([0.1, 2.0])
    table_VD = token_table(ids, rows, mean, spread)
    assert torch.equal(table_VD[ids], rows)
    others = table_VD[8:]
    assert torch.allclose(others.mean(0), mean, atol=0.03)
    assert torch.allclose(others.std(0), spread, rtol=0.02)
    # By hand: bytes 4 to 7 of the stream are those of row 1.
    octets = hashlib.shake_256(b"doodle-clip token rows 1").digest(8)
    expected = [(octets[4 + 2 * i] + octets[5 + 2 * i] - 255) / (65535 / 6) ** 0.5 for i in (0, 1)]
    assert torch.allclose(table_VD[1], torch.tensor(expected) * spread + mean, atol=1e-6)


def test_unknown_names_are_warned_of_in_one_line(towers: dict[str, Backbone]) -> None:
    tower = towers["doodle-clip"]
    assert tower.text.unknown_names(["fish", "zyzzyva", "flying_fish", "wombat"]) == ["zyzzyva", "wombat"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_method("zeroshot", tower, ["fish", "zyzzyva", "wombat"])
    texts = [str(warning.message) for warning in caught]
    assert texts == [
        "backbone 'doodle-clip' has never seen a word of 2 of 3 class names: 'zyzzyva', 'wombat'; "
        "such a text means nothing to it"
    ]


def test_other_backbones_know_all_words(tiny_backbone: Backbone) -> None:
    assert tiny_backbone.text.unknown_names(["zyzzyva"]) == []


def test_random_weights_and_activation() -> None:
    random = load_backbone("doodle-clip", random_weights=3)
    assert random.random_weights == 3
    assert random.digest == load_backbone("doodle-clip", random_weights=3).digest
    assert random.digest != load_backbone("doodle-clip", random_weights=4).digest
    assert random.text.unknown_names(["zyzzyva"]) == []
    with pytest.raises(UsageError, match="QuickGELU"):
        load_backbone("doodle-clip", quick_gelu=False)


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    load_backbone("doodle-clip")
    assert torch.equal(before, torch.get_rng_state())
