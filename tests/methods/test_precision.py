"""Towers in reduced precision: what methods compute themselves stays in fp32."""

from __future__ import annotations

import open_clip
import pytest
import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method
from vlmprompt.testing import tiny_clip


@pytest.mark.parametrize("name", ["zeroshot", "coop", "linear_probe", "bloom"])
def test_logits_are_fp32_and_near_those_of_fp32_towers(tiny_backbone, name):
    reduced = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), precision="bf16")
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours, exact = (build_method(name, backbone, ["cat", "dog"])(images) for backbone in (reduced, tiny_backbone))
    assert ours.logits.dtype == torch.float32
    assert (ours.logits - exact.logits).abs().max() <= 0.02 * reduced.scale  # bf16: about 1e-2 of a cosine


def test_cached_fp32_features_meet_text_of_bf16_towers():
    reduced = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), precision="bf16")
    method = build_method("coop", reduced, ["cat", "dog"])
    cached = ImageFeatures(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
    method.loss(method(cached), torch.tensor([0, 1])).total.backward()
    assert method.ctx.grad.dtype == torch.float32
    assert method.ctx.grad.abs().max() > 0
