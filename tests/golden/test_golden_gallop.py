"""GalLoP on a ViT and on a ResNet against the released code's numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.golden import Golden, close, load
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.scores import ood_scores

CASES = ("gallop_vit", "gallop_rn50")
TRAINED = ("global_prompt", "local_prompts", "local_proj.linear.weight")


@pytest.fixture(scope="module", params=CASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


@cache
def backbone(case: str) -> Backbone:
    """The towers of a case, built once: they are frozen."""
    return load(case).backbone()


def build(golden: Golden, **options: Any) -> PromptMethod:
    """The method with fresh initial values."""
    return build_method("gallop", backbone(golden.settings["case"]), golden.names, options)


def gallop(golden: Golden, **options: Any) -> PromptMethod:
    """The method at the recorded initial values."""
    hyper = golden.settings["hyper"]
    own = {
        "template": hyper["template"],
        "n_global": hyper["n_global_prompts"],
        "n_local": hyper["n_local_prompts"],
        "topk": hyper["topk"],
        "dropout_rate": hyper["global_dropout_p"],
        "keep_underscores": True,
    }
    method = build(golden, **own | options)
    method.load_trainable_state(golden.group("param."))
    return method


@pytest.fixture(scope="module")
def method(golden: Golden) -> PromptMethod:
    return gallop(golden)


@pytest.fixture(scope="module")
def output(golden: Golden, method: PromptMethod) -> MethodOutput:
    with torch.no_grad():
        return method(golden.tensors["in.images"])


def draws(golden: Golden, step: int) -> dict[str, Tensor]:
    return {"dropout_idx": golden.tensors["in.dropout_idx"][step, :, 0]}


def test_initial_values_are_the_template(golden: Golden) -> None:
    fresh = build(golden, topk=[1, 2, 3, 4]).trainable_state()
    assert tuple(fresh) == TRAINED
    for name in ("global_prompt", "local_prompts"):
        assert torch.equal(fresh[name], golden.tensors["in.prompt_init"].expand(4, -1, -1))
    assert torch.equal(fresh[TRAINED[2]], torch.eye(len(fresh[TRAINED[2]])))


def test_features(golden: Golden, method: PromptMethod) -> None:
    with torch.no_grad():
        features = method.encode_images(golden.tensors["in.images"])
        local_BNd = method.local_features(features)  # type: ignore[operator]
        text_PKd = method.encode_text().features_PKd
    m = golden.settings["hyper"]["n_global_prompts"]
    close(features.global_Bd, golden.tensors["out.image_global_raw"], of_max=3e-5)
    close(text_PKd[:m].transpose(0, 1), golden.tensors["out.text_global_raw"], of_max=3e-5)
    close(text_PKd[m:].transpose(0, 1), golden.tensors["out.text_local_raw"], of_max=3e-5)
    raw_BNd = golden.tensors["out.image_local_raw"]
    close(local_BNd, raw_BNd / raw_BNd.norm(dim=-1, keepdim=True), of_max=3e-5)


def test_cosines_and_what_is_kept_of_them(golden: Golden, output: MethodOutput) -> None:
    t = golden.group("out.")
    torch.testing.assert_close(output.aux["global_cosines_BKm"], t["G"], atol=3e-6, rtol=0)
    torch.testing.assert_close(output.aux["local_topk_BKn"], t["S_topk"], atol=3e-6, rtol=0)
    torch.testing.assert_close(output.global_cosines, t["G"].mean(dim=-1), atol=3e-6, rtol=0)
    torch.testing.assert_close(output.local_cosines, t["S"].mean(dim=-1), atol=3e-6, rtol=0)


def test_one_scale_for_all_prompts(golden: Golden) -> None:
    with torch.no_grad():
        for topk in (3, [3]):
            aux = gallop(golden, topk=topk)(golden.tensors["in.images"]).aux
            torch.testing.assert_close(aux["local_topk_BKn"], golden.tensors["out.S_topk_single"], atol=3e-6, rtol=0)


@pytest.mark.parametrize(("branch", "name"), [("both", "combined"), ("global", "global"), ("local", "local")])
def test_probabilities(golden: Golden, method: PromptMethod, branch: str, name: str) -> None:
    with torch.no_grad():
        logits = method(golden.tensors["in.images"], branch=branch).logits
    torch.testing.assert_close(logits.softmax(dim=-1), golden.tensors[f"out.prob_{name}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("score", ["mcm", "l-mcm", "gl-mcm"])
def test_scores(golden: Golden, output: MethodOutput, score: str, temperature: float) -> None:
    ours = ood_scores(output, score, temperature)
    reference = -golden.tensors[f"out.score_{score.replace('-', '')}_T{temperature}"]
    torch.testing.assert_close(ours, reference, atol=2e-6, rtol=0)


def test_losses_and_gradients(golden: Golden) -> None:
    method = gallop(golden)
    losses = method.loss(method(golden.tensors["in.images"]), golden.tensors["in.targets"], draws=draws(golden, 0))
    losses.total.backward()
    for name, ours in {"total": losses.total, **losses.parts}.items():
        torch.testing.assert_close(ours, golden.tensors[f"out.loss_{name}"], atol=0, rtol=1e-5)
    for name in TRAINED:
        close(method.get_parameter(name).grad, golden.tensors[f"grad.{name}"], of_max=3e-5)


def test_gradients_of_the_local_branch_alone(golden: Golden) -> None:
    method = build(golden, topk=golden.settings["hyper"]["topk"], use_global=False, keep_underscores=True)
    method.load_trainable_state({name: golden.tensors[f"param.{name}"] for name in TRAINED[1:]})
    losses = method.loss(method(golden.tensors["in.images"]), golden.tensors["in.targets"])
    losses.total.backward()
    torch.testing.assert_close(losses.total, golden.tensors["out.loss_local"], atol=0, rtol=1e-5)
    for name in TRAINED[1:]:
        close(method.get_parameter(name).grad, golden.tensors[f"grad_local_only.{name}"], of_max=3e-5)


def test_three_steps(golden: Golden) -> None:
    method, hyper = gallop(golden), golden.settings["hyper"]
    optimizer = torch.optim.SGD(
        method.parameters(), lr=hyper["lr"], momentum=hyper["momentum"], weight_decay=hyper["weight_decay"]
    )
    for step, reference in enumerate(golden.tensors["out.step_losses"]):
        optimizer.zero_grad()
        output = method(golden.tensors["in.images"])
        loss = method.loss(output, golden.tensors["in.targets"], draws=draws(golden, step)).total
        torch.testing.assert_close(loss, reference, atol=0, rtol=1e-5)
        loss.backward()
        optimizer.step()
    for name in TRAINED:
        torch.testing.assert_close(
            method.get_parameter(name).detach(), golden.tensors[f"after3.{name}"], atol=1e-6, rtol=0
        )
    with torch.no_grad():
        output = method(golden.tensors["in.images"])
    torch.testing.assert_close(output.aux["global_cosines_BKm"], golden.tensors["out.G_after3"], atol=3e-6, rtol=0)
    torch.testing.assert_close(output.local_cosines, golden.tensors["out.S_after3"].mean(dim=-1), atol=3e-6, rtol=0)
