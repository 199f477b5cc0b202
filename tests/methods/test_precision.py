"""Towers in reduced precision: what methods compute themselves stays in fp32."""

from __future__ import annotations

import open_clip
import pytest
import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method
from vlmprompt.plugins import host
from vlmprompt.testing import tiny_clip


def test_cached_fp32_features_meet_text_of_bf16_towers():
    reduced = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), precision="bf16")
    method = build_method("coop", reduced, ["cat", "dog"])
    cached = ImageFeatures(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
    method.loss(method(cached), torch.tensor([0, 1])).total.backward()
    assert method.ctx.grad.dtype == torch.float32
    assert method.ctx.grad.abs().max() > 0


@pytest.mark.parametrize("name", host().methods.names())
def test_every_method_serves_float64_towers(name: str) -> None:
    """With the numbers of fp32 towers, to fp32's rounding."""
    options = {"topk": [1, 2, 3, 4]} if name == "gallop" else {}
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels, found = torch.tensor([0, 1, 2]), []
    for model, batch in ((tiny_clip(), images), (tiny_clip().double(), images.double())):
        backbone = Backbone.from_model(model, open_clip.SimpleTokenizer())
        described = [["a stripe", "a spot"]] * 3
        method = build_method(name, backbone, ["cat", "dog", "bird"], options, descriptions=described).eval()
        output = method(method.encode_images(batch)) if "feature_cache" in method.capabilities else method(batch)
        loss = method.loss(output, labels).total
        if loss.requires_grad:
            loss.backward()
        found.append((output.logits, loss))
    (logits, loss), (exact_logits, exact_loss) = found
    assert (exact_logits.dtype, exact_loss.dtype) == (torch.float64, torch.float64)
    torch.testing.assert_close(logits.double(), exact_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.double(), exact_loss, rtol=1e-4, atol=1e-4)
