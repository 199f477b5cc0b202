"""SOT-GLP beyond the released code's numbers: choices, initial values, refusals, runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.examples.sot_glp import registered
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod

NAMES = ("cat", "red_panda", "ash tree")


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with registered():
        yield


def build(backbone: Backbone, **options: Any) -> PromptMethod:
    return build_method("sot_glp", backbone, NAMES, {"topk": 5, **options})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def test_logits_by_a_loop_over_images_and_classes(tiny_backbone: Backbone, images: torch.Tensor) -> None:
    method = build(tiny_backbone).eval()
    with torch.no_grad():
        text, features = method.encode_text(), method.encode_images(images)
        output = method.classify(features, text)
        global_mKd, local_nKd = F.normalize(text.features_PKd, dim=-1).split([4, 4])
        assert features.local_BNc is not None
        patches_BNd = F.normalize(features.local_BNc @ tiny_backbone.vision.projection, dim=-1)  # the map is 1 at first
        costs = []
        for image in range(len(images)):
            for label in range(len(NAMES)):
                sim_Nn = patches_BNd[image] @ local_nKd[:, label].T
                costs.append(1 - sim_Nn[sim_Nn.mean(dim=1).argsort(descending=True)[:5]])
        cost_Pkn = torch.stack(costs).double()
        K, a, b = torch.exp(-cost_Pkn / 0.1), torch.ones(12, 5, 1).double(), torch.ones(12, 1, 4).double()
        for _ in range(100):
            before, a = a, 1 / 5 / (K * b).sum(dim=2, keepdim=True)
            b = 1 / 4 / (K * a).sum(dim=1, keepdim=True)
            if (a - before).abs().mean() < 1e-2:
                break
        local_BK = ((a * K * b) * (1 - cost_Pkn)).sum(dim=(1, 2)).view(4, 3) / 4
        mean_BK = torch.einsum("bd,mkd->bmk", F.normalize(features.global_Bd, dim=-1), global_mKd).mean(dim=1)
    expected = tiny_backbone.scale * (mean_BK + local_BK.float()) / 2
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=0)


def test_without_the_division_local_logits_are_n_times_larger(tiny_backbone: Backbone, images: torch.Tensor) -> None:
    method, plain = build(tiny_backbone), build(tiny_backbone, scale_by_n=False)
    with torch.no_grad():
        ours, theirs = (m(images).aux["local_BK"] for m in (method, plain))
    torch.testing.assert_close(4 * ours, theirs)


def test_initial_values(tiny_backbone: Backbone) -> None:
    state = build(tiny_backbone, n_local=2, n_ctx=3).trainable_state()
    words = tiny_backbone.text.embed_words("A photo of a")
    assert torch.equal(state["global_prompt"], words[:3].expand(4, -1, -1))
    local = state["local_prompts"]
    assert local.shape == (3, 2, 3, 64)
    bound = (6 / (2 * 3 * 64 + 3 * 3 * 64)) ** 0.5
    assert 0.95 * bound < local.abs().max() <= bound
    rows = build(tiny_backbone, local_init="orthonormal").trainable_state()["local_prompts"]
    torch.testing.assert_close(rows @ rows.mT, 1e-6 * torch.eye(4).expand(3, 4, 4, 4), atol=1e-11, rtol=0)


def test_maps_of_the_plan_sum_to_one_on_the_chosen_patches(tiny_backbone: Backbone, images: torch.Tensor) -> None:
    method = build(tiny_backbone).eval()
    with torch.no_grad():
        output = method(images, keep_plan=True)
    labels = torch.tensor([0, 1, 2, 1])
    plans = [m for m in method.patch_maps(output, labels) if m.kind == "plan"]
    assert len(plans) == 4
    for plan in plans:
        torch.testing.assert_close(plan.values_BN.sum(dim=1), torch.ones(4))
        assert ((plan.values_BN > 0).sum(dim=1) == 5).all()


def test_other_towers_are_refused_by_name(tiny_resnet: Backbone) -> None:
    with pytest.raises(
        CapabilityError, match=r"method 'sot_glp': .*value_attention are needed; the blocks of this ResNet"
    ):
        build(tiny_resnet)
