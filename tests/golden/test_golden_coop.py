"""CoOp, all six variants, against the reference's numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.golden.golden import Golden, close, load
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method

VARIANTS = ("end", "middle", "front", "csc_end", "csc_middle", "init_end")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("coop")


@pytest.fixture(scope="module")
def backbone(golden: Golden) -> Backbone:
    return golden.backbone()


def options(golden: Golden, variant: str) -> dict[str, object]:
    hyper = golden.settings["hyper"]["variants"][variant]
    return {
        "n_ctx": hyper["n_ctx"],
        "ctx_init": hyper["ctx_init"] or None,
        "class_position": hyper["class_token_position"],
        "class_specific": hyper["csc"],
    }


def test_every_variant_is_here(golden):
    assert set(golden.settings["hyper"]["variants"]) == set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_gradient(golden, backbone, variant):
    t = golden.group(f"{variant}.")
    method = build_method("coop", backbone, golden.names, options(golden, variant))
    method.load_trainable_state({"ctx": t["param.ctx"]})
    output = method(golden.tensors["in.images"])
    loss = method.loss(output, golden.tensors["in.targets"]).total
    loss.backward()
    close(F.normalize(method.encode_text().features_PKd[0], dim=-1), t["out.text_features"], of_max=3e-5)
    torch.testing.assert_close(output.logits, t["out.logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, t["out.loss"], atol=0, rtol=1e-5)
    close(method.ctx.grad, t["grad.ctx"], of_max=3e-5)


def test_image_features_and_scale(golden, backbone):
    features = backbone.encode_image(golden.tensors["in.images"])
    close(features.unit_Bd, golden.tensors["out.image_features"], of_max=3e-5)
    assert backbone.scale == pytest.approx(golden.settings["hyper"]["logit_scale_exp"])
