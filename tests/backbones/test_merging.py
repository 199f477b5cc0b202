"""Deltas merged into a model's weights: the model by itself computes what the engine computes with the deltas."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import pytest
import torch

from tests.backbones.serving import image_backbone
from tests.backbones.test_deltas import ALL, MERGEABLE, of_tower
from tests.backbones.test_text import close
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.deltas import Bias, TowerDeltas
from vlmprompt.backbones.merging import merged_state
from vlmprompt.backbones.types import ImageNeeds, TextPrompts, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError

TEXTS = ["a cat", "a tram in the rain"]


def test_a_model_of_merged_weights_computes_what_the_deltas_say(tiny_backbone: Backbone, tiny_model: Any) -> None:
    text = of_tower(tiny_backbone.text.tower.blocks, (MERGEABLE, {"q": Bias, "ln_2": ALL[1]["ln_2"]}))
    image = of_tower(tiny_backbone.vision.tower.blocks, (MERGEABLE, MERGEABLE))
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    merged = copy.deepcopy(tiny_model)
    merged.load_state_dict(merged_state(tiny_backbone, text, image))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = tiny_backbone.vision.encode(images, ImageNeeds(), VisualPrompts(deltas=image)).global_Bd
        close(merged.encode_image(images), ours)
        prompts = TextPrompts(torch.empty(1, 0, 64), deltas=text)
        ours = tiny_backbone.text.encode(prompts, tiny_backbone.text.class_tokens(TEXTS, tail=""))[0]
        close(merged.encode_text(open_clip.tokenize(TEXTS)), ours)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    untouched = merged_state(tiny_backbone, None, TowerDeltas())
    assert all(torch.equal(untouched[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", ["siglip", "eva02"])
def test_towers_of_timm_are_merged_too(kind: str) -> None:
    """Thirds of one projection with its bias, and three projections."""
    backbone = image_backbone(kind)
    image = of_tower(backbone.vision.tower.blocks, (MERGEABLE, MERGEABLE))
    merged: Any = copy.deepcopy(backbone.model)
    merged.load_state_dict(merged_state(backbone, None, image))
    images = torch.randn(2, 3, *backbone.preprocess.sides, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = backbone.vision.encode(images, ImageNeeds(), VisualPrompts(deltas=image)).global_Bd
        close(merged.encode_image(images), ours)


def test_what_no_weight_can_hold_is_refused(tiny_backbone: Backbone) -> None:
    image = of_tower(tiny_backbone.vision.tower.blocks)
    told = "part 'adapter_attn' in block 0 of the image tower cannot be merged into weights: a bottleneck"
    with pytest.raises(CapabilityError, match=told):
        merged_state(tiny_backbone, None, image)
    with pytest.raises(InputError, match="deltas name block 7"):
        merged_state(tiny_backbone, TowerDeltas({7: image[0]}), None)
    eva = image_backbone("eva02")
    assert eva.vision.tower.blocks[0].places["k"].bias is None
    with pytest.raises(CapabilityError, match=r"part 'k' in block 1 .* there is no parameter to hold it"):
        merged_state(eva, None, TowerDeltas({1: {"k": Bias(torch.zeros(48))}}))
