"""Values and gradients against an independent, plain calculation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from tests.gallop import plain
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.methods import topk
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.topk import topk_cosines, topk_means
from vlmprompt.testing import tiny_clip

NAMES = ["cat", "red_panda", "tench, fish", "2012 Audi TTS Coupe", "owl"]
LABELS = torch.tensor([1, 4, 0])


@pytest.fixture(scope="module", params=[False, True], ids=["vit", "resnet"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_clip(resnet=request.param)


@pytest.fixture(scope="module")
def backbone(model: Any, tokenizer: Any) -> Backbone:
    return Backbone.from_model(model, tokenizer)


def images(backbone: Backbone, n: int = 3) -> Tensor:
    size = backbone.preprocess.size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def stirred(backbone: Backbone, **options: Any) -> PromptMethod:
    """A method whose prompts and map have left their identical starts."""
    defaults: dict[str, Any] = {"n_global": 3, "keep_underscores": True}
    if options.get("use_local", True):
        defaults["topk"] = [1, 2, 4]
    method = build_method("gallop", backbone, NAMES, defaults | options)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in method.named_parameters():
        noise = 0.05 if name.startswith("local_proj") else 0.02
        parameter.data += noise * torch.randn(parameter.shape, generator=generator)
    return method


def test_loss_and_gradients_of_everything(model: Any, backbone: Backbone, tokenizer: Any) -> None:
    method = stirred(backbone)
    kept = [[0, 0], [2, 1], [1, 2]]
    ours = method.loss(method(images(backbone)), LABELS, draws={"dropout_idx": torch.tensor(kept)}).total
    ours.backward()
    state = {name: p.detach().clone().requires_grad_() for name, p in method.named_parameters()}
    reference = plain.total_loss(state, model, tokenizer, images(backbone), NAMES, LABELS, scales=(1, 2, 4), kept=kept)
    reference.backward()
    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=0)
    for name, parameter in method.named_parameters():
        assert (parameter.grad - state[name].grad).abs().max() <= 3e-5 * state[name].grad.abs().max()


def test_logits_are_the_mean_of_the_two_means(model: Any, backbone: Backbone, tokenizer: Any) -> None:
    """Not the mean over all prompts: here there are 2 global and 3 local ones."""
    method = stirred(backbone, n_global=2).eval()
    state = method.trainable_state()
    local_BNd = plain.local_features(model, images(backbone), state["local_proj.linear.weight"])
    text_g, text_l = (
        plain.text_features(model, tokenizer, NAMES, state[k]) for k in ("global_prompt", "local_prompts")
    )
    g_BK = torch.einsum("bd,mkd->bk", plain.global_features(model, images(backbone)), text_g) / 2
    sim = plain.similarities(local_BNd, text_l)
    l_BK = plain.reduced(sim, (1, 2, 4)).mean(dim=-1)
    with torch.no_grad():
        output = method(images(backbone), text=method.frozen_text())
    scale = backbone.scale
    torch.testing.assert_close(output.logits, scale * (g_BK + l_BK) / 2, rtol=0, atol=2e-5)
    torch.testing.assert_close(output.global_cosines, g_BK, rtol=0, atol=3e-6)
    torch.testing.assert_close(output.local_cosines, sim.mean(dim=-1), rtol=0, atol=3e-6)
    assert output.local.lmcm(1.0, 2).tolist() == pytest.approx(
        sim.mean(dim=-1).softmax(dim=-1).amax(dim=(1, 2)).tolist(), abs=2e-6
    )
    for branch, cosines in (("global", g_BK), ("local", l_BK)):
        torch.testing.assert_close(method(images(backbone), branch=branch).logits, scale * cosines, rtol=0, atol=2e-5)


def test_value_block_is_attention_by_the_identity(model: Any, backbone: Backbone) -> None:
    width = backbone.vision.width
    needs = ImageNeeds(local="value_block", space="joint")
    ours = F.normalize(backbone.encode_image(images(backbone), needs).local_BNc, dim=-1)
    torch.testing.assert_close(ours, plain.local_features(model, images(backbone), torch.eye(width)), rtol=0, atol=2e-6)


def test_features_from_the_cache_give_the_same(backbone: Backbone) -> None:
    method = stirred(backbone)
    features = backbone.encode_image(images(backbone), method.image_needs())
    torch.testing.assert_close(method(features).logits, method(images(backbone)).logits)
    fixed = stirred(backbone, learn_local_proj=False)
    assert fixed.image_needs().space == "joint"
    features = backbone.encode_image(images(backbone), fixed.image_needs())
    assert features.local_BNc.shape[-1] == backbone.vision.joint_dim
    torch.testing.assert_close(fixed(features).logits, fixed(images(backbone)).logits)


def test_all_patches_are_the_dense_mean(backbone: Backbone) -> None:
    n = backbone.vision.n_local
    dense, every = (stirred(backbone, topk=k, n_local=3) for k in (None, n))
    torch.testing.assert_close(dense(images(backbone)).logits, every(images(backbone)).logits)
    output = dense(images(backbone))
    torch.testing.assert_close(
        output.aux["local_topk_BKn"].mean(dim=-1), output.local_cosines.mean(dim=1), rtol=0, atol=1e-6
    )


# -- top-k ----------------------------------------------------------------------------------------------
def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double), dim=-1)


@settings(max_examples=40)
@given(
    n_images=st.integers(1, 3),
    patches=st.integers(1, 9),
    classes=st.integers(1, 8),
    scales=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    part=st.integers(1, 200),
    seed=st.integers(0, 50),
)
def test_topk_in_parts_equals_sorting_everything(
    n_images: int, patches: int, classes: int, scales: list[int], part: int, seed: int
) -> None:
    local, text = unit(n_images, patches, 6, seed=seed), unit(len(scales), classes, 6, seed=seed + 1)
    grad = torch.randn(n_images, classes, len(scales), generator=torch.Generator().manual_seed(2), dtype=torch.double)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "PART_VALUES", part)
        for compute in (topk_means, lambda z, t, k: plain.reduced(plain.similarities(z, t), k)):
            z, t = local.clone().requires_grad_(), text.clone().requires_grad_()
            value = compute(z, t, scales)
            value.backward(grad)
            results.append((value, z.grad, t.grad))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


@settings(max_examples=30)
@given(
    patches=st.integers(1, 9),
    classes=st.integers(1, 8),
    k=st.integers(1, 12),
    part=st.integers(1, 200),
    seed=st.integers(0, 50),
)
def test_chosen_cosines_in_parts_equal_sorting_everything(
    patches: int, classes: int, k: int, part: int, seed: int
) -> None:
    local, text = unit(2, patches, 6, seed=seed).requires_grad_(), unit(3, classes, 6, seed=seed + 1).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "PART_VALUES", part)
        ours, index = topk_cosines(local, text, k)
    sim_BKNn = torch.einsum("bnd,mkd->bknm", local, text)
    order = sim_BKNn.mean(dim=-1).argsort(dim=2, descending=True)[:, :, : min(k, patches)]
    plain = sim_BKNn.gather(2, order[..., None].expand(-1, -1, -1, 3))
    assert torch.equal(index, order)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    both = [torch.autograd.grad(value, (local, text), grad) for value in (ours, plain)]
    for own, reference in zip(*both, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)


def test_the_graph_holds_indices_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the similarities of all patches, classes and prompts; nor do they ever exist together."""
    monkeypatch.setattr(topk, "PART_VALUES", 400)
    n_images, patches, classes, prompts = 2, 20, 50, 4
    local = unit(n_images, patches, 6, seed=0).requires_grad_()
    text = unit(prompts, classes, 6, seed=1).requires_grad_()
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    largest: list[int] = []
    best = topk._best
    monkeypatch.setattr(topk, "_best", lambda sim, k: largest.append(sim.numel()) or best(sim, k))
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        topk_means(local, text, (1, 2, 3, 4))
    everything = n_images * patches * classes * prompts * 8
    indices = n_images * classes * (1 + 2 + 3 + 4) * 8
    assert sum(held.values()) <= indices + (local.numel() + text.numel()) * 8 < everything / 2
    assert max(largest) <= 400


# -- the losses -----------------------------------------------------------------------------------------
def per_prompt(cosines_BKp: Tensor, scale: float) -> Tensor:
    """Cross-entropy of each image and prompt (B,p)."""
    columns = [plain.cross_entropy(scale * cosines_BKp[..., i], LABELS) for i in range(cosines_BKp.shape[-1])]
    return torch.stack(columns, dim=-1)


@pytest.mark.parametrize("local_loss", ["mean", "sum"])
@pytest.mark.parametrize("global_loss", ["mean", "sum"])
def test_losses_without_dropout(backbone: Backbone, global_loss: str, local_loss: str) -> None:
    method = stirred(backbone, prompt_dropout="none", global_loss=global_loss, local_loss=local_loss)
    output = method(images(backbone))
    own_BKm, local_BKn = output.aux["global_cosines_BKm"], output.aux["local_topk_BKn"]
    losses = method.loss(output, LABELS)
    local_Bn = per_prompt(local_BKn, method.scale)
    expected_local = local_Bn.mean(dim=0).sum() / (3 if local_loss == "mean" else 1)
    if global_loss == "mean":
        expected = plain.cross_entropy(method.scale * own_BKm.mean(dim=-1), LABELS).mean()
    else:
        expected = per_prompt(own_BKm, method.scale).mean(dim=0).sum()
    torch.testing.assert_close(losses.parts["global"], expected.detach())
    torch.testing.assert_close(losses.parts["local"], expected_local.detach())
    torch.testing.assert_close(losses.total, expected + expected_local)


def test_bernoulli_keeps_what_its_mask_says(backbone: Backbone) -> None:
    method = stirred(backbone, prompt_dropout="bernoulli", use_local=False)
    output = method(images(backbone))
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    loss = method.loss(output, LABELS, draws={"dropout_mask": mask}).total
    expected = (per_prompt(output.aux["global_cosines_BKm"], method.scale) * mask).sum() / 3
    torch.testing.assert_close(loss, expected)


def test_bernoulli_and_one_kept_prompt_agree_in_expectation(backbone: Backbone) -> None:
    """r = 0.75 and m = 4, all outcomes enumerated: gradients agree as well, since the losses do at any state."""
    one, masked = (stirred(backbone, n_global=4, use_local=False, prompt_dropout=d) for d in ("official", "bernoulli"))
    output = one(images(backbone, 1))
    labels = LABELS[:1]
    kept = [one.loss(output, labels, draws={"dropout_idx": torch.tensor([[i]])}).total for i in range(4)]
    expected = sum(
        0.25 ** sum(mask)
        * 0.75 ** (4 - sum(mask))
        * masked.loss(output, labels, draws={"dropout_mask": torch.tensor([mask])}).total
        for mask in itertools.product([False, True], repeat=4)
    )
    torch.testing.assert_close(torch.stack(kept).mean(), expected)


def test_with_one_global_prompt_the_loss_is_coops(backbone: Backbone) -> None:
    """Same context, same assembly of the text: the cross-entropy of one learned context."""
    method = stirred(backbone, n_global=1, use_local=False)
    output = method(images(backbone))
    torch.testing.assert_close(method.loss(output, LABELS).total, F.cross_entropy(output.logits, LABELS))


@pytest.mark.parametrize(
    ("dropout", "loss"), [("none", "mean"), ("none", "sum"), ("official", "mean"), ("bernoulli", "mean")]
)
def test_weights_of_images(backbone: Backbone, loss: str, dropout: str) -> None:
    """The loss of a batch is the weighted mean of those of its images alone."""
    method = stirred(backbone, prompt_dropout=dropout, global_loss=loss, local_loss=loss)
    draws = {
        "none": {},
        "official": {"dropout_idx": torch.tensor([[0, 2], [1, 1], [2, 0]])},
        "bernoulli": {"dropout_mask": torch.tensor([[True, False, True], [True, False, False], [True, True, True]])},
    }[dropout]
    batch, weights = images(backbone), torch.tensor([2.0, 0.25, 0.75])
    together = method.loss(method(batch), LABELS, draws=draws, weights=weights).total
    alone = []
    for i in range(3):
        own = {name: drawn[i, None] for name, drawn in draws.items()}
        alone.append(method.loss(method(batch[i, None]), LABELS[i, None], draws=own).total)
    torch.testing.assert_close(together, (weights * torch.stack(alone)).mean())
