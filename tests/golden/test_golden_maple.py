"""The engine's deep prompts in both towers against MaPLe's numbers (Bloom inherits these mechanics)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.golden.golden import close, load
from vlmprompt.backbones.types import ImageNeeds, TextPrompts, VisualPrompts


def test_features_logits_loss_and_gradients():
    golden = load("maple")
    backbone = golden.backbone()
    p = {name: t.requires_grad_() for name, t in golden.group("param.").items()}
    deep_ld = p["compound_prompts_text.0"]
    visual = {
        0: F.linear(p["ctx"], p["proj.weight"], p["proj.bias"]),
        1: F.linear(deep_ld, p["compound_prompt_projections.0.weight"], p["compound_prompt_projections.0.bias"]),
    }
    prompts = TextPrompts(p["ctx"][None], deep={1: deep_ld[None]}, words="of a")
    text_Kd = F.normalize(backbone.text.encode(prompts, backbone.text.class_tokens(golden.names))[0], dim=-1)
    image_Bd = backbone.encode_image(
        golden.tensors["in.images"], ImageNeeds(grad=True), prompts=VisualPrompts(visual)
    ).unit_Bd
    logits = backbone.scale * image_Bd @ text_Kd.T
    loss = F.cross_entropy(logits, golden.tensors["in.targets"])
    loss.backward()

    out = golden.group("out.")
    close(text_Kd, out["text_features"], of_max=3e-5)
    close(image_Bd, out["image_features"], of_max=3e-5)
    torch.testing.assert_close(logits, out["logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, out["loss"], atol=0, rtol=1e-5)
    grads = golden.group("grad.")
    assert grads.keys() == p.keys()
    for name, reference in grads.items():
        close(p[name].grad, reference, of_max=3e-5)
