"""PLOT against the reference's numbers: local features, plans, logits, losses, gradients."""

from __future__ import annotations

import pytest
import torch

from tests.golden.golden import Golden, close, load, settled_or_not
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method

VARIANTS = ("plain", "imagenet", "eps02")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("plot")


@pytest.fixture(scope="module")
def backbone(golden: Golden) -> Backbone:
    return golden.backbone()


@settled_or_not
@pytest.mark.parametrize("variant", VARIANTS)
def test_plan_logits_loss_and_gradient(golden, backbone, variant):
    hyper = golden.settings["hyper"]
    options = {
        "n_prompts": hyper["N"],
        "n_ctx": hyper["n_ctx"],
        "sinkhorn_lambda": hyper["eps"][variant],
        "max_iter": hyper["max_iter"],
        "tol": hyper["thresh"],
        "add_global": variant == "imagenet",
    }
    method = build_method("plot", backbone, golden.names, options)
    method.load_trainable_state({"ctx": golden.tensors["param.ctx"]})
    output = method(golden.tensors["in.images"], keep_plan=True)
    loss = method.loss(output, golden.tensors["in.targets"]).total
    loss.backward()
    reference = golden.group(f"{variant}.")
    if variant != "imagenet":
        close(output.aux["plan"], reference["out.T"], of_max=1e-5)
    torch.testing.assert_close(output.logits, reference["out.logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, reference["out.loss"], atol=0, rtol=1e-5)
    close(method.ctx.grad, reference["grad.ctx"], of_max=3e-5)


def test_image_tokens(golden, backbone):
    """All outputs of the attention pool: the first is the global feature, the others are the local ones."""
    method = build_method("plot", backbone, golden.names)
    features = method.encode_images(golden.tensors["in.images"])
    tokens_BTd = golden.tensors["out.image_tokens"].transpose(0, 1)
    close(features.global_Bd, tokens_BTd[:, 0], of_max=3e-5)
    close(features.local_BNc, tokens_BTd[:, 1:], of_max=3e-5)
