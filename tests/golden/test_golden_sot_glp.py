"""SOT-GLP, the example package, against the released code's numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.examples.sot_glp import registered
from tests.golden.golden import Golden, close, load
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.scores import ood_scores

TRAINED = ("global_prompt", "local_prompts", "local_proj.linear.weight")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("sot_glp")


@pytest.fixture(scope="module")
def backbone(golden: Golden) -> Backbone:
    return golden.backbone()


@pytest.fixture
def method(golden: Golden, backbone: Backbone) -> Iterator[PromptMethod]:
    hyper = golden.settings["hyper"]
    options = {
        "n_global": hyper["n_global"],
        "n_local": hyper["n_local"],
        "n_ctx": hyper["n_tokens"],
        "topk": hyper["topk"][0],
        "epsilon": hyper["eps"],
        "max_iter": hyper["max_iter"],
        "tol": hyper["thresh"],
        "dropout_rate": hyper["global_dropout_p"],
    }
    with registered():
        built = build_method("sot_glp", backbone, golden.names, options)
        built.load_trainable_state({name: golden.tensors[f"param.{name}"] for name in TRAINED})
        yield built


def test_patches_follow_the_values(golden: Golden, method: PromptMethod) -> None:
    with torch.no_grad():
        features = method.encode_images(golden.tensors["in.images"])
    assert features.local_BNc is not None
    close(features.local_BNc, golden.tensors["out.vision_local"], of_max=3e-5)
    projection_cd = method.backbone.vision.projection
    assert projection_cd is not None
    close(features.global_Bd, golden.tensors["out.vision_global"] @ projection_cd, of_max=3e-5)


def test_cosines_plans_and_probabilities(golden: Golden, method: PromptMethod) -> None:
    t = golden.group("out.")
    with torch.no_grad():
        output = method(golden.tensors["in.images"], keep_plan=True)
    torch.testing.assert_close(output.aux["global_cosines_BKm"], t["G"], atol=3e-6, rtol=0)
    torch.testing.assert_close(output.local_cosines, t["S"].mean(dim=-1), atol=3e-6, rtol=0)
    close(output.aux["plan_BKkn"].flatten(0, 1), t["T"], of_max=1e-5)
    for logits, name in (
        (output.logits, "combined"),
        (output.scale * output.aux["global_cosines_BKm"].mean(dim=-1), "global"),
        (output.scale * output.aux["local_BK"], "local"),
    ):
        torch.testing.assert_close(logits.softmax(dim=-1), t[f"prob_{name}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", ["mcm", "l-mcm", "gl-mcm"])
def test_scores_are_dense(golden: Golden, method: PromptMethod, score: str) -> None:
    with torch.no_grad():
        ours = ood_scores(method(golden.tensors["in.images"]), score)
    reference = -golden.tensors[f"out.score_{score.replace('-', '_')}"]
    torch.testing.assert_close(ours, reference, atol=2e-6, rtol=0)


def test_losses_and_gradients(golden: Golden, method: PromptMethod) -> None:
    draws = {"dropout_idx": golden.tensors["in.dropout_idx"]}
    losses = method.loss(method(golden.tensors["in.images"]), golden.tensors["in.targets"], draws=draws)
    losses.total.backward()
    torch.testing.assert_close(losses.total, golden.tensors["out.loss"], atol=0, rtol=1e-5)
    for name, ours in losses.parts.items():
        torch.testing.assert_close(ours, golden.tensors[f"out.loss_{name}"], atol=0, rtol=1e-5)
    for name in TRAINED:
        close(method.get_parameter(name).grad, golden.tensors[f"grad.{name}"], of_max=3e-5)
