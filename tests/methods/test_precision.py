"""Towers in reduced precision: what methods compute themselves stays in fp32."""

from __future__ import annotations

import open_clip
import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method
from vlmprompt.testing import tiny_clip


def test_cached_fp32_features_meet_text_of_bf16_towers():
    reduced = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), precision="bf16")
    method = build_method("coop", reduced, ["cat", "dog"])
    cached = ImageFeatures(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
    method.loss(method(cached), torch.tensor([0, 1])).total.backward()
    assert method.ctx.grad.dtype == torch.float32
    assert method.ctx.grad.abs().max() > 0
