"""DUAL-PT against plain loops: logits, losses, gradients, contexts, options."""

from __future__ import annotations

import itertools
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.describe.material import PHRASES as PHRASES_OF
from tests.describe.material import write_descriptions
from tests.training.material import config, log_lines, make_photos, runtime
from vlmprompt.api import Backbone, ImageFeatures, InputError, PromptMethod, UsageError, build_method, transport_plan
from vlmprompt.testing import check_method
from vlmprompt.training.run import train

NAMES = ["cat", "red_panda", "tench, fish"]
PHRASES = [["soft fur", "long whiskers"], ["ringed tail", "red coat", "white face", "small ears", "claws"], []]
LABELS = torch.tensor([0, 2, 1])
test_rules = check_method("dual_pt")
test_rules_of_codual_pt = check_method("dual_pt", conditional=True)

DISTILLATIONS = ("pair_mean", "match", "centroid", "index", "wd", "ce")


def images(n: int = 3, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def dual_pt(backbone: Backbone, phrases: Any = PHRASES, seed: int = 1, **options: Any) -> PromptMethod:
    options = {"n_prompts": 3, "n_ctx": 4} | options
    generator = torch.Generator().manual_seed(seed)
    return build_method("dual_pt", backbone, NAMES, options, descriptions=phrases, generator=generator)


def stirred(method: PromptMethod) -> PromptMethod:
    """Away from the small initial values, so that prompts differ; the net's few hidden units are all alive."""
    g = torch.Generator().manual_seed(2)
    for parameter in method.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=g)
    if method.meta_net is not None:
        method.meta_net[0].bias.data += 1.5
    return method


def plain_text(backbone: Backbone, ctx_MVD: Tensor) -> Tensor:
    """(K,M,d), one prompt and class at a time."""
    from vlmprompt.api import TextPrompts

    rows = []
    for name in NAMES:
        own = [
            backbone.text.encode(TextPrompts(ctx[None]), backbone.text.class_tokens([name]))[0, 0] for ctx in ctx_MVD
        ]
        rows.append(F.normalize(torch.stack(own), dim=-1))
    return torch.stack(rows)


def phrase_features(backbone: Backbone, phrases: list[str]) -> Tensor:
    return F.normalize(backbone.text.encode_sentences(phrases), dim=-1)


# -- forward -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("align", "alpha"), [("graph", 0.2), ("node", 0.0), ("edge", 1.0)])
@pytest.mark.parametrize("resnet", [False, True])
def test_logits_are_sums_over_plans(tiny_backbone, tiny_resnet, align, alpha, resnet):
    backbone, size = (tiny_resnet, 64) if resnet else (tiny_backbone, 32)
    method = stirred(dual_pt(backbone, align=align, context="none")).eval()
    assert method.image_needs().local == ("tokens" if resnet else "value_block")
    output = method(images(size=size), keep_plan=True)
    features = backbone.encode_image(images(size=size), method.image_needs())
    W_KMd = plain_text(backbone, method.prompts.detach())
    for b, k in itertools.product(range(3), range(3)):
        Z_Nd = F.normalize(features.local_BNc[b], dim=-1)
        T_NM = transport_plan(Z_Nd[None], W_KMd[k][None], alpha=alpha, lambda_=0.1)[0, 0]
        torch.testing.assert_close(output.aux["plan"][b, k], T_NM, atol=2e-6, rtol=0)
        expected = sum(T_NM[n, m] * (Z_Nd[n] @ W_KMd[k, m]) for n in range(len(Z_Nd)) for m in range(3))
        torch.testing.assert_close(output.logits[b, k], method.scale * expected, atol=2e-5, rtol=0)


def test_attention_over_positions(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone, align="attn", context="none", attn_temperature=0.05)).eval()
    output = method(images(), keep_plan=True)
    Z_BNd = F.normalize(tiny_backbone.encode_image(images(), method.image_needs()).local_BNc, dim=-1)
    weights = (Z_BNd[1] @ plain_text(tiny_backbone, method.prompts.detach())[2].T / 0.05).exp()
    torch.testing.assert_close(output.aux["plan"][1, 2], weights / weights.sum(dim=0) / 3, atol=1e-6, rtol=0)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("context", ["none", "sim"])
def test_logits_do_not_depend_on_the_batch(tiny_backbone, conditional, context):
    method = stirred(dual_pt(tiny_backbone, context=context, conditional=conditional)).eval()
    features = tiny_backbone.encode_image(images(6), method.image_needs())
    with torch.no_grad():
        whole = method(features).logits
        order = torch.tensor([4, 0, 5, 2, 1, 3])
        torch.testing.assert_close(method(features[order]).logits, whole[order], atol=1e-6, rtol=0)
        for b in range(6):
            torch.testing.assert_close(method(features[b : b + 1]).logits[0], whole[b], atol=1e-6, rtol=0)


def test_conditional_prompts(tiny_backbone):
    """ctx[b,m] = S[m] + Linear(ReLU(Linear(z/|z|))) on all tokens of all prompts."""
    method = stirred(dual_pt(tiny_backbone, conditional=True)).eval()
    assert {n: tuple(p.shape) for n, p in method.named_parameters()} == {
        "prompts": (3, 4, 64),
        "meta_net.0.weight": (2, 32),
        "meta_net.0.bias": (2,),
        "meta_net.2.weight": (64, 2),
        "meta_net.2.bias": (64,),
    }
    features = tiny_backbone.encode_image(images(), method.image_needs())
    state = method.trainable_state()
    z = F.normalize(features.global_Bd, dim=-1)
    hidden = (z @ state["meta_net.0.weight"].T + state["meta_net.0.bias"]).clamp_min(0)
    pi = hidden @ state["meta_net.2.weight"].T + state["meta_net.2.bias"]
    output = method(features)
    assert method.frozen_text() is None
    for b in range(3):
        W_KMd = plain_text(tiny_backbone, state["prompts"] + pi[b])
        torch.testing.assert_close(output.aux["text_KMd"][b], W_KMd, atol=1e-5, rtol=0)


def test_add_global(tiny_backbone):
    without, added = (stirred(dual_pt(tiny_backbone, add_global=g)).eval() for g in (False, True))
    raw_MKd = without.encode_text().features_PKd
    z_Bd = F.normalize(tiny_backbone.encode_image(images()).global_Bd, dim=-1)
    expected = without.scale * z_Bd @ F.normalize(raw_MKd.mean(dim=0), dim=-1).T
    torch.testing.assert_close(added(images()).logits - without(images()).logits, expected, atol=2e-5, rtol=0)


# -- contexts ------------------------------------------------------------------------------------------
def test_sim_keeps_the_positions_nearest_to_the_global_feature(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone, context="sim")).eval()
    output = method(images(), keep_plan=True)
    features = tiny_backbone.encode_image(images(), method.image_needs())
    Z_BNd = F.normalize(features.local_BNc, dim=-1)
    for b in range(3):
        cosines = (Z_BNd[b] @ F.normalize(features.global_Bd[b], dim=-1)).tolist()
        kept = sorted(sorted(range(16), key=lambda n: -cosines[n])[:8])
        plan_KNM = output.aux["plan"][b]
        assert plan_KNM.sum(dim=(0, 2)).nonzero().flatten().tolist() == kept
        W_KMd = output.aux["text_KMd"].detach()
        own = transport_plan(Z_BNd[b, kept][None], W_KMd, alpha=0.2, lambda_=0.1)[0]
        torch.testing.assert_close(plan_KNM[:, kept], own, atol=1e-6, rtol=0)


@pytest.mark.parametrize("resnet", [False, True])
def test_cam_weighs_positions_by_an_activation_map(tiny_backbone, tiny_resnet, tiny_model, resnet):
    backbone, size = (tiny_resnet, 64) if resnet else (tiny_backbone, 32)
    method = dual_pt(backbone, context="cam")
    marginal_BN = method.image_extra(images(size=size), LABELS)["marginal_BN"]
    torch.testing.assert_close(marginal_BN.sum(dim=1), torch.ones(3))
    assert (marginal_BN > 0).all() and (marginal_BN.std(dim=1) > 0).all()
    features = backbone.encode_image(images(size=size), method.image_needs())
    plan = method(ImageFeatures(features.global_Bd, features.local_BNc, {"marginal_BN": marginal_BN}), keep_plan=True)
    rows = plan.aux["plan"].sum(dim=-1)
    torch.testing.assert_close(rows, marginal_BN[:, None].expand_as(rows), atol=1e-6, rtol=0)
    if resnet:
        return
    # By hooks on the last block of the model itself: its input, and the gradient there.
    kept: dict[str, Tensor] = {}

    def keep(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept["map"] = args[0].detach().requires_grad_()
        return (kept["map"], *args[1:])

    hook = tiny_model.visual.transformer.resblocks[-1].register_forward_pre_hook(keep)
    text = F.normalize(backbone.text.encode_template("a photo of a {}.", NAMES), dim=-1)
    global_Bd = F.normalize(tiny_model.encode_image(images()), dim=-1)
    hook.remove()
    (method.scale * (global_Bd * text[LABELS]).sum()).backward()
    x, g = kept["map"].detach()[:, 1:], kept["map"].grad[:, 1:]
    cam = (x * g.mean(dim=1, keepdim=True)).sum(dim=-1).clamp_min(0) + 1e-3
    torch.testing.assert_close(marginal_BN, cam / cam.sum(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_cam_takes_labels_in_training_and_zero_shot_otherwise(tiny_backbone):
    method = dual_pt(tiny_backbone, context="cam")
    key = method.feature_key()
    by_label = method.image_extra(images(), LABELS)["marginal_BN"]
    other = method.image_extra(images(), torch.tensor([1, 0, 2]))["marginal_BN"]
    assert not torch.allclose(by_label, other)
    with pytest.raises(InputError, match="computed once") as caught:
        method(images())
    assert "--views 1" in str(caught.value.hint)
    method.eval()
    assert method.feature_key() != key
    text = F.normalize(tiny_backbone.text.encode_template("a photo of a {}.", NAMES), dim=-1)
    chosen = (F.normalize(tiny_backbone.encode_image(images()).global_Bd, dim=-1) @ text.T).argmax(dim=-1)
    at_test = method.image_extra(images(), LABELS)["marginal_BN"]
    torch.testing.assert_close(at_test, method.train().image_extra(images(), chosen)["marginal_BN"])
    assert method.eval()(images()).logits.shape == (3, 3)


# -- loss ----------------------------------------------------------------------------------------------
def by_hand(kind: str, W_KMd: Tensor, h: list[Tensor], logits: Tensor, z_Bd: Tensor, scale: float) -> Tensor:
    """L_LLM of the two described classes."""
    if kind == "ce":
        classes = torch.stack([F.normalize(own.mean(dim=0), dim=-1) for own in h])
        teacher = (scale * z_Bd @ classes.T).softmax(dim=-1)
        return -(teacher * logits.log_softmax(dim=-1)[:, :2]).sum(dim=-1).mean()
    losses = []
    for W_Md, h_ed in zip(W_KMd, h, strict=False):
        cosines = W_Md @ h_ed.T
        if kind == "pair_mean":
            losses.append(1 - cosines.mean())
        elif kind == "centroid":
            losses.append(1 - F.cosine_similarity(W_Md.mean(dim=0), h_ed.mean(dim=0), dim=0))
        elif kind == "index":
            losses.append(1 - cosines.diagonal().mean())
        elif kind == "match":
            copies = cosines if len(h_ed) >= 3 else cosines.repeat(1, 2)
            ways = itertools.permutations(range(copies.shape[1]), 3)
            losses.append(1 - max(sum(copies[m, c] for m, c in enumerate(way)) for way in ways) / 3)
        else:
            plan = transport_plan(h_ed[None], W_Md[None].detach(), alpha=0, lambda_=0.1)[0, 0]
            losses.append((plan * (1 - cosines.T)).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", DISTILLATIONS)
def test_losses_by_hand(tiny_backbone, kind, conditional):
    method = stirred(dual_pt(tiny_backbone, distill=kind, conditional=conditional, beta=0.3)).train()
    method.start_epoch(0, 2)
    output = method(images())
    losses = method.loss(output, LABELS)
    h = [phrase_features(tiny_backbone, own) for own in PHRASES if own]
    W = output.aux["text_KMd"]
    z = F.normalize(tiny_backbone.encode_image(images()).global_Bd, dim=-1)
    if kind == "match" and conditional:  # matched on the prompts without an image's token
        own = plain_text(tiny_backbone, method.prompts.detach())
        assert method.matches_KM.shape == (2, 3)
        best = by_hand("match", own, h, output.logits, z, method.scale)
        matched = [own[k, m] @ h[k][method.matches_KM[k, m]] for k in range(2) for m in range(3)]
        torch.testing.assert_close(1 - sum(matched) / 6, best, atol=1e-6, rtol=0)
        return
    each = [by_hand(kind, one, h, output.logits, z, method.scale) for one in (W if conditional else W[None])]
    llm = torch.stack(each).mean()
    torch.testing.assert_close(losses.parts["llm"], llm.detach(), atol=2e-6, rtol=1e-5)
    ce = F.cross_entropy(output.logits, LABELS)
    torch.testing.assert_close(losses.total, 0.3 * llm + 0.7 * ce, atol=2e-6, rtol=1e-5)


def test_weights_of_images_act_on_the_cross_entropy(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone, beta=0.3)).train()
    output = method(images())
    weights = torch.linspace(0.2, 1.8, len(LABELS))
    losses, plain = method.loss(output, LABELS, weights=weights), method.loss(output, LABELS)
    ce = (weights * F.cross_entropy(output.logits, LABELS, reduction="none")).mean()
    torch.testing.assert_close(losses.parts["llm"], plain.parts["llm"])
    torch.testing.assert_close(losses.total, 0.3 * plain.parts["llm"] + 0.7 * ce)


def test_all_prompts_get_the_same_gradient_from_the_mean_over_pairs(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone))
    W = method(images()).aux["text_KMd"].detach().requires_grad_()
    from vlmprompt_dual_pt.distill import distance

    distance("pair_mean", W[:2], method.targets()).backward()
    assert W.grad is not None and W.grad[0].abs().max() > 0
    torch.testing.assert_close(W.grad, W.grad[:, :1].expand_as(W))
    assert not W.grad[2].any()


@pytest.mark.parametrize("kind", DISTILLATIONS)
@pytest.mark.parametrize("conditional", [False, True])
def test_gradients_reach_its_own_parameters_only(tiny_backbone, tiny_model, kind, conditional):
    method = stirred(dual_pt(tiny_backbone, distill=kind, conditional=conditional)).train()
    method.start_epoch(0, 1)
    method.loss(method(images()), LABELS).total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.parameters())
    assert all(p.grad is None for p in tiny_model.parameters())


def test_gradients_through_the_plans_are_an_option(tiny_backbone):
    grads = []
    for through in (False, True):
        method = stirred(dual_pt(tiny_backbone, context="none", differentiable=through)).train()
        method.loss(method(images()), LABELS).total.backward()
        grads.append(method.prompts.grad)
    assert not torch.allclose(grads[0], grads[1], rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"conditional": True}, {"distill": "centroid", "beta": 0.7}])
def test_the_log_compares_the_gradients_of_both_losses(tiny_backbone, tmp_path, monkeypatch, options):
    """beta |dL_LLM| / |dCE|, from each loss alone; both by hand from the logits and text features of the step."""
    from vlmprompt_dual_pt.dual_pt import DualPT

    names, expected, loss = sorted(PHRASES_OF), [], DualPT.loss
    photos = make_photos(tmp_path / "photos", splits={"train": 3, "test": 1})
    write_descriptions(tmp_path / "descriptions.jsonl", names)

    def looking(self, output, labels, **given):
        h = [phrase_features(tiny_backbone, PHRASES_OF[name]) for name in names]
        W, kind, beta = output.aux["text_KMd"], self.config.distill, self.config.beta
        own = [by_hand(kind, one, h, output.logits, None, self.scale) for one in (W if W.dim() == 4 else W[None])]
        parameters = list(self.parameters())
        norms = []
        for one in (F.cross_entropy(output.logits, labels), torch.stack(own).mean()):
            grads = torch.autograd.grad(one, parameters, retain_graph=True)
            norms.append(torch.cat([g.double().flatten() for g in grads]).norm().item())
        expected.append({"ce.norm": norms[0], "llm.norm": beta * norms[1], "llm.ratio": beta * norms[1] / norms[0]})
        return loss(self, output, labels, **given)

    monkeypatch.setattr(DualPT, "loss", looking)
    settings = config(photos, method="dual_pt", n_prompts=3, **options, epochs=2, warmup_epochs=0, views=0)
    settings = settings.model_copy(update={"descriptions": str(tmp_path / "descriptions.jsonl")})
    run = train(settings, runtime(tmp_path), backbone=tiny_backbone).run
    steps = [line for line in log_lines(run) if "epoch_end" not in line]
    assert len(expected) == len(steps) > 2
    for i, line in enumerate(steps):
        first = i == 0 or line["epoch"] != steps[i - 1]["epoch"]
        assert line.get("gradients") == (pytest.approx(expected[i], rel=1e-4) if first else None)
    assert log_lines(run)[-1]["gradients"] == next(own["gradients"] for own in steps if own["epoch"] == 2)


def test_without_descriptions_nothing_is_compared(tiny_backbone):
    method = dual_pt(tiny_backbone, context="none").train()
    assert method.loss(method(images()), LABELS).compared == {}


# -- classes, state, counts ----------------------------------------------------------------------------
def test_other_classes_need_no_descriptions(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone)).eval()
    other = method.with_classes(["dog", "cat"])
    torch.testing.assert_close(other(images()).logits[:, 1], method(images()).logits[:, 0], atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="no descriptions of these classes"):
        other.loss(other(images()), torch.tensor([0, 1, 0]))


def test_prompts_start_small_and_apart(tiny_backbone):
    assert not torch.equal(dual_pt(tiny_backbone, seed=1).prompts, dual_pt(tiny_backbone, seed=2).prompts)
    prompts = dual_pt(tiny_backbone, n_prompts=8, n_ctx=16).prompts
    assert 0.018 < prompts.std() < 0.022 and not torch.equal(prompts[0], prompts[1])


@pytest.mark.parametrize(
    ("joint", "conditional", "count"),
    [(1024, False, 32_768), (512, False, 32_768), (1024, True, 32_768 + 98_880), (512, True, 32_768 + 33_312)],
)
def test_parameter_counts_at_rn50_and_vit_b_16(joint, conditional, count):
    text = SimpleNamespace(
        width=512, joint_dim=joint, class_tokens=lambda names, **more: None, unknown_names=lambda names: []
    )
    vision = SimpleNamespace(has_prompts=False, n_local=49, require=id)
    shim: Any = SimpleNamespace(text=text, vision=vision, device=torch.device("cpu"), scale=100.0, spec="shim")
    shim.is_vit, shim.dtype = False, torch.float32
    method = build_method("dual_pt", shim, NAMES, {"conditional": conditional, "beta": 0})
    assert sum(p.numel() for p in method.parameters()) == count


def test_matches_are_part_of_the_state(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone, distill="match"))
    method.start_epoch(0, 1)
    state = method.trainable_state()
    assert set(state) == {"prompts", "matches_KM"} and state["matches_KM"].any()
    again = dual_pt(tiny_backbone, distill="match")
    again.load_trainable_state(state)
    torch.testing.assert_close(again.matches_KM, method.matches_KM)


def test_diagnostics(tiny_backbone):
    method = stirred(dual_pt(tiny_backbone))
    W = plain_text(tiny_backbone, method.prompts.detach())
    expected = torch.stack([(W[:, i] * W[:, j]).sum(dim=-1) for i, j in ((0, 1), (0, 2), (1, 2))]).mean()
    method(images())
    found = method.diagnostics()
    assert found["prompt_cosine"] == pytest.approx(float(expected), abs=1e-6)
    assert found["plans_cut_short"] == 0


# -- options -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"align": "node", "alpha": 0.2}, "align = node means alpha = 0"),
        ({"align": "edge", "alpha": 0}, "align = edge means alpha = 1"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"description_template": "no place"}, "exactly one"),
    ],
)
def test_options_that_contradict_each_other(tiny_backbone, options, said):
    with pytest.raises(UsageError, match=said):
        dual_pt(tiny_backbone, **options)


@pytest.mark.parametrize("phrases", [None, [[], [], []]])
def test_no_descriptions(tiny_backbone, phrases):
    with pytest.raises(InputError, match="there are none") as caught:
        dual_pt(tiny_backbone, phrases)
    assert "describe-classes" in str(caught.value.hint)
    for options in ({"beta": 0}, {"context": "none"}, {"context": "sim"}):
        dual_pt(tiny_backbone, None, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": "none", "beta": 0.5}, "beta .* with context = none"),
        ({"context": "sim", "distill": "wd"}, "distill .* no descriptions"),
        ({"sim_keep": 0.3}, "sim_keep .* without context = sim"),
        ({"align": "attn", "sinkhorn_lambda": 0.2}, "sinkhorn_lambda .* align = attn"),
        ({"align": "attn", "alpha": 0.5}, "alpha .* align = attn"),
        ({"attn_temperature": 0.2}, "attn_temperature .* without align"),
        ({"n_prompts": 1}, "every plan is uniform"),
        ({"n_prompts": 2, "align": "edge"}, "edges alone match nothing"),
    ],
)
def test_options_without_effect_are_said(tiny_backbone, options, said):
    with pytest.warns(UserWarning, match=said):
        dual_pt(tiny_backbone, **options)


def test_defaults_warn_of_nothing(tiny_backbone):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, {"align": "node"}, {"align": "edge", "alpha": 1}, {"align": "attn"}, {"context": "cam"}):
            dual_pt(tiny_backbone, **options)


@pytest.mark.parametrize(
    ("options", "share"), [({"n_prompts": 1}, 1 / 16), ({"n_prompts": 2, "align": "edge"}, 1 / 32)]
)
@pytest.mark.filterwarnings("ignore:with ")
def test_settings_in_which_plans_are_uniform(tiny_backbone, options, share):
    plan = stirred(dual_pt(tiny_backbone, **options))(images(), keep_plan=True).aux["plan"]
    torch.testing.assert_close(plan, torch.full_like(plan, share), atol=1e-6, rtol=0)


def test_description_template(tiny_backbone):
    method = dual_pt(tiny_backbone, description_template="{class}, which has {phrase}.")
    expected = phrase_features(tiny_backbone, ["red panda, which has ringed tail."])[0]
    torch.testing.assert_close(method.targets().h_KEd[1, 0], expected, atol=1e-6, rtol=0)
