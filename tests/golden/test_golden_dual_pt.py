"""DUAL-PT without edges and descriptions, stopped by PLOT's rule, is PLOT: against its code's numbers."""

from __future__ import annotations

import pytest
import torch

from tests.golden.golden import Golden, close, load, settled_or_not
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("plot")


@pytest.fixture(scope="module")
def backbone(golden: Golden) -> Backbone:
    return golden.backbone()


@settled_or_not
@pytest.mark.parametrize("variant", ["plain", "imagenet", "eps02"])
def test_plan_logits_loss_and_gradient(golden, backbone, variant):
    hyper, t = golden.settings["hyper"], golden.group(f"{variant}.")
    options = {
        "alpha": 0,
        "beta": 0,
        "stop": "plot",
        "sinkhorn_lambda": hyper["eps"][variant],
        "add_global": variant == "imagenet",
        "n_prompts": hyper["N"],
        "n_ctx": hyper["n_ctx"],
    }
    method = build_method("dual_pt", backbone, golden.names, options)
    method.load_trainable_state({"prompts": golden.tensors["param.ctx"]})
    output = method(golden.tensors["in.images"], keep_plan=True)
    loss = method.loss(output, golden.tensors["in.targets"]).total
    loss.backward()
    torch.testing.assert_close(output.logits, t["out.logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, t["out.loss"], atol=0, rtol=1e-5)
    close(method.prompts.grad, t["grad.ctx"], of_max=3e-5)
    if variant != "imagenet":
        close(output.aux["plan"], t["out.T"], of_max=1e-5)
