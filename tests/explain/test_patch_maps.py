"""Maps of what methods have seen: equal to what made their logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.explain import entries
from vlmprompt.explain.maps import Looking, class_attention, mean_share, on_object, share
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.patch_maps import PatchMap, cosine_maps, plan_maps
from vlmprompt.methods.transport import transport_plan

NAMES = ("red fox", "green frog", "blue whale", "grey wolf")
LABELS = torch.tensor([2, 0, 3])


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(7))


def made(backbone: Backbone, name: str, **options: Any) -> PromptMethod:
    return build_method(name, backbone, NAMES, options).eval()


def kinds(maps: list[PatchMap]) -> list[str]:
    return [m.kind for m in maps]


def test_weights_are_shares_worked_out_by_hand() -> None:
    chosen = PatchMap("patches", "", torch.tensor([[1.0, 0, 1, 0]]))
    assert chosen.weights_BN.tolist() == [[0.5, 0, 0.5, 0]]
    cosines = PatchMap("cosines", "", torch.tensor([[-0.25, 0.5, 0.0, -0.25], [0.5, 0.5, 0.5, 0.5]]))
    assert cosines.weights_BN.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]  # the mean is 0
    attention = PatchMap("attention", "", torch.tensor([[3.0, 0, 0, 1.0]]))
    assert attention.weights_BN.tolist() == [[0.75, 0, 0, 0.25]]
    mask_N = torch.tensor([True, True, False, False])
    empty = PatchMap("attention", "", torch.zeros(1, 4)).weights_BN[0]
    assert share(attention.weights_BN[0], mask_N) == 0.75 and share(empty, mask_N) is None
    assert mean_share([chosen.weights_BN[0], empty, attention.weights_BN[0]], mask_N) == 0.625
    assert mean_share([empty], mask_N) is None


def test_plans_are_those_of_the_class_and_each_prompts_mass_is_one() -> None:
    plan_BKNM = torch.zeros(2, 3, 2, 2)
    plan_BKNM[0, 1] = torch.tensor([[0.1, 0.5], [0.4, 0.0]])
    plan_BKNM[1, 2] = torch.tensor([[0.5, 0.25], [0.0, 0.25]])
    first, second = plan_maps(plan_BKNM, torch.tensor([1, 2]))
    torch.testing.assert_close(first.values_BN, torch.tensor([[0.2, 0.8], [1.0, 0.0]]))
    torch.testing.assert_close(second.values_BN, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert (first.title, second.title, first.kind) == ("prompt 1", "prompt 2", "plan")


def test_a_plan_as_a_whole_points_nowhere() -> None:
    """Its prompts share the patches among them: their mean is chance whatever the plan, so only each has a number."""
    g = torch.Generator().manual_seed(3)
    Z_BNd, W_KMd = (F.normalize(torch.randn(*shape, 8, generator=g), dim=-1) for shape in ((1, 4), (2, 3)))
    plans = plan_maps(transport_plan(Z_BNd, W_KMd, alpha=0.0, lambda_=0.1), torch.tensor([1]))
    mask_N = torch.tensor([True, False, False, False])
    assert mean_share([m.weights_BN[0] for m in plans], mask_N) == pytest.approx(0.25, abs=1e-5)
    assert entries._mean_on(plans, 0, mask_N) is None
    each = [entries._on(m, 0, mask_N) for m in plans]
    assert each == [pytest.approx(float(m.values_BN[0, 0])) for m in plans] and max(each) - min(each) > 0.1
    chosen = [PatchMap("patches", "", torch.tensor([[1.0, 0, 1, 0]]))] * 2
    assert entries._mean_on(chosen, 0, mask_N) == 0.5 and entries._mean_on(chosen, 0, None) is None


@pytest.mark.parametrize("per_image", [False, True])
def test_cosines_are_those_of_the_class(per_image: bool) -> None:
    g = torch.Generator().manual_seed(1)
    features = F.normalize(torch.randn(3, 5, 8, generator=g), dim=-1)
    classes = torch.randn(*([3] if per_image else []), 4, 8, generator=g)
    output = MethodOutput(torch.zeros(3, 4), 1.0, local=LocalView(features, classes))
    (found,) = cosine_maps(output, LABELS)
    for b, label in enumerate(LABELS):
        own = classes[b, label] if per_image else classes[label]
        torch.testing.assert_close(found.values_BN[b], torch.stack([patch @ own for patch in features[b]]))
    assert cosine_maps(MethodOutput(torch.zeros(3, 4), 1.0), LABELS) == []


def test_gallop_shows_the_patches_that_its_logits_are_made_of(tiny_backbone: Backbone) -> None:
    method = made(tiny_backbone, "gallop", topk=[1, 5, 16])
    looking = Looking.of("gallop", method)
    output = looking.output(images())
    maps = looking.maps(images(), output, LABELS)
    assert kinds(maps) == ["patches"] * 3 + ["cosines"] * 3 + ["attention"]
    assert [m.title for m in maps[:3]] == ["prompt 1, 1 patch", "prompt 2, 5 patches", "prompt 3, 16 patches"]
    with torch.no_grad():
        plain = method(images())
    for j, k in enumerate([1, 5, 16]):
        chosen_BN, cosines_BN = maps[j].values_BN, maps[3 + j].values_BN
        assert chosen_BN.sum(dim=1).tolist() == [k] * 3
        for b, label in enumerate(LABELS):
            mean = cosines_BN[b][chosen_BN[b] > 0].mean()
            torch.testing.assert_close(mean, plain.aux["local_topk_BKn"][b, label, j])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dual_pt", {"context": "none"}),
        ("dual_pt", {"context": "cam", "align": "node"}),
        ("dual_pt", {"context": "sim", "align": "attn"}),
        ("dual_pt", {"context": "none", "conditional": True}),
        ("plot", {}),
    ],
)
def test_plans_equal_the_methods_own(tiny_backbone: Backbone, name: str, options: dict[str, Any]) -> None:
    method = made(tiny_backbone, name, n_prompts=3, n_ctx=2, **options)
    conditional = options.get("conditional", False)
    if conditional:  # its net adds nothing before training
        for p in method.meta_net.parameters():
            p.data += torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    looking = Looking.of(name, method)
    with torch.no_grad():
        own = method(images(), keep_plan=True)
    maps = looking.maps(images(), looking.output(images()), LABELS)
    plans = [m for m in maps if m.kind == "plan"]
    assert len(plans) == 3
    for b, label in enumerate(LABELS):
        for m in range(3):
            torch.testing.assert_close(plans[m].values_BN[b], 3 * own.aux["plan"][b, label, :, m])
    # The logits are the sums of the cosines under these plans.
    text_KMd = looking.output(images()).aux.get("text_KMd")
    if text_KMd is not None and text_KMd.dim() == 3:
        assert own.local is not None
        for b, label in enumerate(LABELS):
            cosines_NM = own.local.features_BNd[b] @ text_KMd[label].T
            shares_NM = torch.stack([m.values_BN[b] for m in plans], dim=1) / 3
            torch.testing.assert_close(own.logits[b, label], own.scale * (shares_NM * cosines_NM).sum())
    # Local features of a ViT's value path do not attend; text that depends on the pooled feature does.
    assert ("attention" in kinds(maps)) is conditional
    assert conditional or (looking.without is not None and "no gradient" in looking.without)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("coop", {"n_ctx": 2}, ["cosines", "attention"]),
        ("coop", {"n_ctx": 2, "class_specific": True}, ["cosines", "attention"]),
        ("cocoop", {}, ["cosines", "attention"]),
        ("zeroshot", {}, ["cosines", "attention"]),
        ("locoop", {"top_k": 1}, ["cosines", "attention"]),
        ("bloom", {}, ["cosines", "attention"]),
        ("maple", {}, ["cosines", "attention"]),
        ("vpt", {}, ["cosines", "attention"]),
        ("ivlp", {}, ["cosines", "attention"]),
        ("promptsrc", {}, ["cosines", "attention"]),
        ("proda", {"n_prompts": 4}, ["cosines", "attention"]),
        ("kgcoop", {}, ["cosines", "attention"]),
        ("linear_probe", {}, ["attention"]),
        ("plot", {"add_global": True}, ["plan"] * 4 + ["cosines", "attention"]),
        ("gallop", {"use_local": False}, ["cosines", "attention"]),
    ],
)
def test_what_each_method_shows(
    tiny_backbone: Backbone, name: str, options: dict[str, Any], expected: list[str]
) -> None:
    method = made(tiny_backbone, name, **options)
    if name == "linear_probe":
        method.weight.copy_(torch.randn(method.weight.shape, generator=torch.Generator().manual_seed(3)))
    looking = Looking.of(name, method)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    maps = looking.maps(images(), looking.output(images()), LABELS)
    assert kinds(maps) == expected
    assert all(m.values_BN.shape == (3, 16) and m.values_BN.isfinite().all() for m in maps)
    assert (maps[-1].values_BN >= 0).all() and maps[-1].values_BN.any()
    # Nothing of the method is touched: it can be trained as before.
    assert all(p.grad is None and p.requires_grad for p in method.parameters()) and not method.training
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", ["coop", "gallop"])
def test_on_a_resnet_it_is_the_last_map(tiny_resnet: Backbone, name: str) -> None:
    options: dict[str, Any] = {"topk": [1, 4]} if name == "gallop" else {}
    looking = Looking.of(name, made(tiny_resnet, name, **options))
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    maps = looking.maps(pixels, looking.output(pixels), LABELS)
    assert kinds(maps)[-1] == "attention" and maps[-1].values_BN.shape == (3, 4)


def test_the_logit_that_is_asked_about_is_the_methods_own(tiny_model: Any, tiny_backbone: Backbone) -> None:
    """CoOp's logit through open_clip's own forward pass, its last block rebuilt from its weights one head at a time."""
    method = made(tiny_backbone, "coop", n_ctx=2)
    visual, (label,) = tiny_model.visual, [1]
    kept: list[Tensor] = []
    block = visual.transformer.resblocks[-1]
    handle = block.register_forward_hook(lambda _, args, out: kept.append(args[0]))
    visual(images(1))
    handle.remove()
    x_TC, attn = kept[0][0], block.attn
    normed_TC, h = block.ln_1(x_TC), x_TC.shape[1] // attn.num_heads
    q_TC, k_TC, v_TC = (normed_TC @ attn.in_proj_weight.T + attn.in_proj_bias).chunk(3, dim=-1)
    matrices, heads = [], []
    for i in range(attn.num_heads):
        part = slice(i * h, (i + 1) * h)
        a_TT = (q_TC[:, part] @ k_TC[:, part].T / h**0.5).softmax(dim=-1).requires_grad_()
        matrices.append(a_TT)
        heads.append(a_TT @ v_TC[:, part])
    x_TC = x_TC + torch.cat(heads, dim=1) @ attn.out_proj.weight.T + attn.out_proj.bias
    x_TC = x_TC + block.mlp(block.ln_2(x_TC))
    feature_d = visual.ln_post(x_TC[0]) @ visual.proj
    text_d = method.encode_text().features_PKd[0, label].detach()
    logit = tiny_model.logit_scale.exp() * F.cosine_similarity(feature_d, text_d, dim=0)
    grads = torch.autograd.grad(logit, matrices)
    expected_N = torch.stack([(a * g).relu()[0, 1:] for a, g in zip(matrices, grads, strict=True)]).mean(dim=0).detach()
    looking = Looking.of("coop", method)
    found_BN = class_attention(looking.frozen, images(1), torch.tensor([label]))
    torch.testing.assert_close(found_BN[0], expected_N, rtol=1e-4, atol=1e-7)


def test_it_works_within_inference_mode(tiny_backbone: Backbone) -> None:
    looking = Looking.of("bloom", made(tiny_backbone, "bloom"))
    plain = class_attention(looking.frozen, images(), LABELS)
    with torch.inference_mode():
        assert torch.equal(class_attention(looking.frozen, images().clone(), LABELS), plain)


def test_nobody_knows_the_object_of_patches_in_no_square() -> None:
    from tests.evaluation.test_pointing import halves

    record = halves().split("test")[0]
    assert on_object(record, (2, 3)) is None
    mask_N = on_object(record, (2, 2))
    assert mask_N is not None and mask_N.tolist() == [True, False, True, False]
