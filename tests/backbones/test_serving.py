"""What towers serve: methods on every kind, tables that say so, and refusals that name what is missing."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch.nn import functional as F

from tests.backbones import serving
from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.capabilities import capabilities
from vlmprompt.backbones.openclip.miniature import miniature, outline
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.build import build_method, list_methods
from vlmprompt.methods.scores import ood_scores
from vlmprompt.methods.served import refusals
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

WITH_PROMPTS = {"bloom", "ivlp", "maple", "mmrl", "promptsrc", "vpt"}
WITH_DELTAS = {"clip_lora"}
WITH_LOCAL = {"dual_pt", "gallop", "locoop", "plot"}
MAPS = {"convnext", "fastvit", "vitamin", "swin", "resnet"}


@cache
def backbone(kind: str) -> Backbone:
    return serving.image_backbone(kind)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), splits={"train": 2, "test": 1})


@pytest.mark.parametrize("kind", serving.IMAGE_KINDS)
def test_every_kind_serves_what_its_towers_allow(kind: str) -> None:
    """A step of a method of each sort; the other methods are tried by the session `serving`."""
    for name in ("linear_probe", "coop", "gallop"):
        assert serving.serves(name, backbone(kind)), name
    assert serving.serves("bloom", backbone(kind)) is (kind not in MAPS)


@pytest.mark.parametrize("kind", serving.ENCODERS.values())
def test_encoders_of_hugging_face_serve_what_needs_no_deep_prompts(kind: str) -> None:
    pytest.importorskip("transformers")
    towers = serving.encoder_backbone(kind)
    assert serving.serves("coop", towers) and serving.serves("gallop", towers)
    with pytest.raises(CapabilityError, match="a text tower that takes prompt tokens in its layers"):
        serving.step("bloom", towers)


@pytest.mark.parametrize("kind", serving.IMAGE_KINDS)
def test_every_kind_is_scored_by_gl_mcm(kind: str) -> None:
    """Of zero-shot CLIP, by its definition: the largest softmax of the cosines, of the image and of any patch."""
    towers = backbone(kind)
    images = torch.randn(2, 3, *towers.preprocess.sides, generator=torch.Generator().manual_seed(1))
    names, temperature = ["cat", "red panda", "fox"], 0.3
    method = build_method("zeroshot", towers, names).with_local()
    found = {name: ood_scores(method(images), name, temperature) for name in ("mcm", "l-mcm", "gl-mcm")}
    features = towers.encode_image(images, ImageNeeds(local="value_block"))
    text_Kd = F.normalize(towers.text.encode_template("a photo of a {}.", names).double(), dim=-1)
    assert features.local_BNc is not None
    everything_BNd = torch.cat([features.global_Bd[:, None], features.local_BNc], dim=1).double()
    cosines_BNK = F.normalize(everything_BNd, dim=-1) @ text_Kd.T
    best_BN = (cosines_BNK / temperature).softmax(dim=-1).amax(dim=-1)
    expected = {"mcm": best_BN[:, 0], "l-mcm": best_BN[:, 1:].amax(dim=1)}
    expected["gl-mcm"] = expected["mcm"] + expected["l-mcm"]
    for name, values_B in found.items():
        torch.testing.assert_close(values_B.double(), expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", serving.IMAGE_KINDS)
def test_towers_stay_as_they_are(kind: str, photos: Path, tmp_path: Path) -> None:
    """An epoch, with gradients through the tower where it takes prompts: state and features, bit for bit."""
    towers = backbone(kind)
    images = torch.randn(2, 3, *towers.preprocess.sides, generator=torch.Generator().manual_seed(1))
    needs = ImageNeeds(local="value_block")
    state, before = copy.deepcopy(towers.model.state_dict()), towers.encode_image(images, needs)
    settings = config(photos, method="plot" if kind in MAPS else "vpt", shots=1, epochs=1, batch_size=2)
    train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=towers)
    assert load_run(tmp_path / "run").info.steps == 2
    assert not any(module.training for module in towers.model.modules())
    for name, value in towers.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    after = towers.encode_image(images, needs)
    assert torch.equal(after.global_Bd, before.global_Bd)
    assert before.local_BNc is not None and after.local_BNc is not None
    assert torch.equal(after.local_BNc, before.local_BNc)


def test_refusals_name_what_is_missing() -> None:
    found = refusals(backbone("convnext"))
    assert set(found) == set(list_methods())
    assert {name for name, why in found.items() if why is not None} == WITH_PROMPTS | WITH_DELTAS | {"gallop"}
    assert found["vpt"] == "needs an image tower that takes prompt tokens (a ViT)"
    assert found["clip_lora"] == "needs an image tower whose blocks can be changed (a ViT)"
    assert "has 4 patches" in str(found["gallop"]), "its default scales are for more"
    assert not any(refusals(backbone("siglip")).values())


def test_methods_of_local_features_are_refused_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a tower comes from a plugin."""
    towers = serving.image_backbone("convnext")
    monkeypatch.setattr(towers.vision, "n_local", 0)
    found = refusals(towers)
    assert {name for name, why in found.items() if why is not None} == WITH_PROMPTS | WITH_DELTAS | WITH_LOCAL
    for name in WITH_LOCAL:
        with pytest.raises(CapabilityError, match=f"{name}.* needs local image features") as error:
            build_method(name, towers, ["cat", "dog"])
        assert "coop" in str(error.value.hint) or "use_local" in str(error.value.hint)
    images = torch.zeros(1, 3, *towers.preprocess.sides)
    with pytest.raises(CapabilityError, match="ConvNeXt, mean of the last map, which has none"):
        towers.encode_image(images, ImageNeeds(local="tokens"))
    assert capabilities(towers).grid is capabilities(towers).local is None


@pytest.mark.parametrize("architecture", ["ViT-B-32", "ViT-B-16-SigLIP2", "convnext_tiny", "RN50", "coca_ViT-B-32"])
def test_a_miniature_has_the_architectures_layers_and_patches(architecture: str) -> None:
    """Beside the table that is made of all of them; grids by the published patch sizes."""
    with pytest.warns(UserWarning) if architecture == "ViT-B-16-SigLIP2" else _nothing():
        of = capabilities(miniature(open_clip.get_model_config(architecture), architecture))
    grids = {"ViT-B-16-SigLIP2": (14, 14)}
    assert of.grid == grids.get(architecture, (7, 7))
    assert of.text_layers == 12
    assert of.image_layers == (0 if architecture in ("RN50", "convnext_tiny") else 12)
    listed = json.loads(serving.DATA.read_text(encoding="utf-8"))[architecture]
    assert (listed["text"], listed["image"], tuple(listed["grid"])) == (of.text, of.image, of.grid)


def test_an_outline_counts_the_parameters_and_allocates_none(tiny_architecture: str) -> None:
    description = open_clip.get_model_config(tiny_architecture)
    built = open_clip.create_model(tiny_architecture)
    shapes = {name: p.shape for name, p in outline(description).named_parameters()}
    assert shapes == {name: p.shape for name, p in built.named_parameters()}
    assert all(p.is_meta for p in outline(description).parameters())


def test_every_listed_architecture_is_in_the_table() -> None:
    """`nox -s serving` makes it anew; the count is of those that need no encoder of Hugging Face."""
    listed = json.loads(serving.DATA.read_text(encoding="utf-8"))
    own = [name for name in listed if not open_clip.get_model_config(name)["text_cfg"].get("hf_model_name")]
    assert len(own) >= 132
    assert [name for name in own if listed[name]["text"] is None] == []


def test_the_page_has_a_row_for_every_kind() -> None:
    page = serving.PAGE.read_text(encoding="utf-8")
    for about in (*serving.IMAGE_KINDS.values(), *serving.TEXT_KINDS, *serving.ENCODERS):
        assert f"\n| {about} | yes" in page, about


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()
