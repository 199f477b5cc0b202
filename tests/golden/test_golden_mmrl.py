"""MMRL against the official code's numbers: features, logits of every kind, losses, gradients."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
import torch
from torch import Tensor

from tests.golden.golden import Golden, close, load
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod

MAPS = {"compound_rep_tokens_r2tproj": "to_text", "compound_rep_tokens_r2vproj": "to_image"}


@cache
def golden() -> tuple[Golden, Backbone]:
    case = load("mmrl")
    return case, case.backbone()


def ours(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's tensors under our names."""
    named = {"representation": group["compound_rep_tokens"], "proj_rep": group["proj_rep"]}
    for name, tensor in group.items():
        kind, _, rest = name.partition(".")
        if kind in MAPS:
            named[f"{MAPS[kind]}.{rest}"] = tensor
    return named


def build() -> PromptMethod:
    g, backbone = golden()
    hyper = g.settings["hyper"]
    options = {
        "layers": hyper["rep_layers"],
        "n_rep": hyper["n_rep_tokens"],
        "rep_dim": hyper["rep_dim"],
        "alpha": hyper["alpha"],
        "reg_weight": hyper["reg_weight"],
    }
    method = build_method("mmrl", backbone, g.names, options, template=hyper["template"])
    method.load_trainable_state(ours(g.group("param.")))
    return method


def same_logits(found: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(found, reference, atol=2e-4, rtol=0)


def test_features_logits_losses_and_gradients() -> None:
    g, _ = golden()
    out, hyper = g.group("out."), g.settings["hyper"]
    method = build().train()
    features = method.encode_images(g.tensors["in.images"])
    output = method.classify(features, method.encode_text())
    close(output.aux["image_Bd"], out["image_features"], of_max=3e-5)
    assert features.prompts_BLC is not None
    close(features.prompts_BLC.mean(dim=1) @ method.proj_rep, out["image_features_rep_raw"], of_max=3e-5)
    close(output.aux["text_PKd"][0], out["text_features"], of_max=3e-5)
    close(output.aux["frozen_Bd"], out["frozen_image_features"], of_max=3e-5)
    close(method.teacher_text_Kd, out["frozen_text_features"], of_max=3e-5)
    same_logits(output.aux["class_BK"], out["logits"])
    same_logits(output.aux["rep_BK"], out["logits_rep"])
    same_logits(output.logits, out["logits_fusion"])
    losses = method.loss(output, g.tensors["in.targets"])
    for part, reference in (("image", out["reg_image"]), ("text", out["reg_text"])):
        torch.testing.assert_close(losses.parts[part], hyper["reg_weight"] * reference, atol=1.5e-5, rtol=0)
    torch.testing.assert_close(losses.total, out["loss"], atol=0, rtol=1e-5)
    losses.total.backward()
    parameters, grads = dict(method.named_parameters()), ours(g.group("grad."))
    assert grads.keys() == parameters.keys()
    for name, reference in grads.items():
        gradient = parameters[name].grad
        assert gradient is not None
        close(gradient, reference, of_max=3e-5)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [0, 1, 2]])
def test_other_classes_are_predicted_by_the_class_feature_alone(order: list[int]) -> None:
    """Also some of the classes of the training, or all in another order: another label space."""
    g, _ = golden()
    method = build().eval()
    with torch.no_grad():
        other = method.with_classes([g.names[k] for k in order], template=g.settings["hyper"]["template"])
        same_logits(other(g.tensors["in.images"]).logits, g.tensors["out.logits"][:, order])
        again = method.with_classes(g.names, template=g.settings["hyper"]["template"])
        same_logits(again(g.tensors["in.images"]).logits, g.tensors["out.logits_fusion"])
