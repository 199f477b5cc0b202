"""The baselines against the references' numbers: features, logits, losses, gradients, epoch weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.golden import Golden, close, load
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import Losses, MethodOutput


@cache
def golden(case: str) -> tuple[Golden, Backbone]:
    case_ = load(case)
    return case_, case_.backbone()


def build(case: str, name: str, options: Mapping[str, Any], state: Mapping[str, Tensor]) -> PromptMethod:
    case_, backbone = golden(case)
    method = build_method(name, backbone, case_.names, options)
    method.load_trainable_state(state)
    return method


def run(method: PromptMethod, case: str, draws: Mapping[str, Tensor] | None = None) -> tuple[MethodOutput, Losses]:
    tensors = golden(case)[0].tensors
    output = method(tensors["in.images"], draws=draws)
    losses = method.loss(output, tensors["in.targets"])
    losses.total.backward()
    return output, losses


def grad(method: PromptMethod, name: str) -> Tensor:
    gradient = dict(method.named_parameters())[name].grad
    assert gradient is not None
    return gradient


def same_logits(ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, atol=5e-5, rtol=0)


def same_loss(ours: Tensor, reference: Tensor, atol: float = 0.0) -> None:
    torch.testing.assert_close(ours, reference, atol=atol, rtol=1e-5)


def layers(first: Tensor, deeper: Mapping[str, Tensor]) -> Tensor:
    """Prompts of all layers (J,L,D) from the references' separate tensors, in the order of their names."""
    return torch.stack([first, *(deeper[name] for name in sorted(deeper))])


# -- CoCoOp ----------------------------------------------------------------------------------------------
def test_cocoop():
    g, _ = golden("cocoop")
    p = {n.replace("linear1", "0").replace("linear2", "2"): t for n, t in g.group("param.").items()}
    method = build("cocoop", "cocoop", {"n_ctx": 4, "ctx_init": "a photo of a"}, p)
    output, losses = run(method, "cocoop")
    shift = method.text_prompts(output.aux["image_Bd"]).ctx[:, 0] - method.ctx
    for token in range(4):
        close(shift[:, token], g.tensors["out.bias"], of_max=3e-5)
    close(output.aux["image_Bd"], g.tensors["out.image_features"], of_max=3e-5)
    same_logits(output.logits, g.tensors["out.logits"])
    same_loss(losses.total, g.tensors["out.loss"])
    for name, reference in g.group("grad.").items():
        close(grad(method, name.replace("linear1", "0").replace("linear2", "2")), reference, of_max=3e-5)


# -- MaPLe -----------------------------------------------------------------------------------------------
def maple_tensors(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's tensors under our names."""
    deeper = {n: t for n, t in group.items() if n.startswith("compound_prompts_text.")}
    named = {"text_prompts": layers(group["ctx"], deeper)}
    for kind in ("weight", "bias"):
        named[f"projections.0.{kind}"] = group[f"proj.{kind}"]
        for i in range(len(deeper)):
            named[f"projections.{i + 1}.{kind}"] = group[f"compound_prompt_projections.{i}.{kind}"]
    return named


def test_maple():
    g, _ = golden("maple")
    method = build("maple", "maple", {"n_ctx": 2, "depth": 2}, maple_tensors(g.group("param.")))
    output, losses = run(method, "maple")
    close(output.aux["text_PKd"][0], g.tensors["out.text_features"], of_max=3e-5)
    close(output.aux["image_Bd"], g.tensors["out.image_features"], of_max=3e-5)
    same_logits(output.logits, g.tensors["out.logits"])
    same_loss(losses.total, g.tensors["out.loss"])
    for name, reference in maple_tensors(g.group("grad.")).items():
        close(grad(method, name), reference, of_max=3e-5)


# -- VPT -------------------------------------------------------------------------------------------------
def vpt_prompts(group: Mapping[str, Tensor]) -> Tensor:
    return layers(group["VPT"], {n: t for n, t in group.items() if n != "VPT"})


@pytest.mark.parametrize("variant", ["deep", "partial", "shallow"])
def test_vpt(variant):
    g, _ = golden("vpt")
    hyper = g.settings["hyper"]["variants"][variant]
    options = {"n_ctx": hyper["n_ctx_vision"], "depth": hyper["prompt_depth_vision"]}
    if variant != "partial":
        options = {"preset": variant}
    state = {"visual_prompts": vpt_prompts(g.group(f"{variant}.param."))}
    method = build("vpt", "vpt", options, state)
    assert sum(p.numel() for p in method.parameters()) == hyper["n_params"]
    output, losses = run(method, "vpt")
    out = g.group(f"{variant}.out.")
    close(output.aux["text_PKd"][0], g.tensors["out.text_features"], of_max=3e-5)
    close(output.aux["image_Bd"], out["image_features"], of_max=3e-5)
    same_logits(output.logits, out["logits"])
    same_loss(losses.total, out["loss"])
    close(grad(method, "visual_prompts"), vpt_prompts(g.group(f"{variant}.grad.")), of_max=3e-5)


# -- LoCoOp ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_locoop(top_k):
    g, _ = golden("locoop")
    options = {"n_ctx": 16, "top_k": top_k, "loc_weight": 0.25}
    method = build("locoop", "locoop", options, g.group("param."))
    output, losses = run(method, "locoop")
    t = g.tensors
    same_logits(output.logits, t["out.logits"])
    same_logits(output.scale * output.local_cosines, t["out.logits_local"])
    same_loss(losses.total, t[f"out.loss_total_top{top_k}"])
    same_loss(losses.parts["ce"], t["out.loss_id"])
    same_loss(-losses.parts["entropy"], t[f"out.loss_en_top{top_k}"])
    positions = output.local_cosines[..., 0].numel()
    assert round(float(losses.parts["background"]) * positions) == int(t[f"out.n_selected_top{top_k}"])
    close(grad(method, "ctx"), g.group(f"grad_top{top_k}.")["ctx"], of_max=3e-5)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_locoop_entropy_alone(top_k):
    """Its gradient is the difference of two weights' gradients."""
    g, _ = golden("locoop")
    grads = []
    for weight in (1.0, 0.0):
        method = build("locoop", "locoop", {"top_k": top_k, "loc_weight": weight}, g.group("param."))
        run(method, "locoop")
        grads.append(grad(method, "ctx"))
    reference = g.group(f"grad_en_top{top_k}.")["ctx"]
    scale = max(float(grads[1].abs().max() / reference.abs().max()), 1.0)
    close(grads[0] - grads[1], reference, of_max=3e-5 * scale)


# -- KgCoOp ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("variant", ["init", "texture", "random"])
def test_kgcoop(variant):
    g, _ = golden("kgcoop")
    hyper = g.settings["hyper"]["variants"][variant]
    options = {
        "n_ctx": hyper["n_ctx"],
        "ctx_init": hyper["ctx_init"] or None,
        "weight": hyper["w"],
        "teacher_template": hyper["template"],
    }
    t = g.group(f"{variant}.")
    method = build("kgcoop", "kgcoop", options, {"ctx": t["param.ctx"]})
    output, losses = run(method, "kgcoop")
    close(method.teacher_text_Kd, t["out.frozen_text_features"], of_max=3e-5)
    close(output.aux["text_PKd"][0], t["out.text_features"], of_max=3e-5)
    same_logits(output.logits, t["out.logits"])
    same_loss(losses.parts["ce"], t["out.loss_ce"])
    torch.testing.assert_close(losses.parts["distance"], t["out.distance"], atol=3e-6, rtol=0)
    same_loss(losses.total, t["out.loss_total"])
    close(method.ctx.grad, t["grad.ctx"], of_max=3e-5)


def test_kgcoop_starts_at_no_distance():
    g, backbone = golden("kgcoop")
    method = build_method("kgcoop", backbone, g.names)
    assert torch.equal(method.ctx, g.tensors["out.init_ctx"])
    _, losses = run(method, "kgcoop")
    assert losses.parts["distance"].abs() < 3e-6


# -- ProDA -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", ["step0", "step1", "full"])
def test_proda(step):
    from vlmprompt_baselines.proda import upper_logits

    g, _ = golden("proda")
    hyper = g.settings["hyper"]
    options = {
        "n_ctx": hyper["n_ctx"],
        "n_prompts": hyper["n_prompt"],
        "prompt_batch": hyper["prompt_bs"],
        "orth_weight": hyper["alpha"],
    }
    out = g.group(f"{step}.out.")
    method = build("proda", "proda", options, g.group("param."))
    output, losses = run(method, "proda", draws={"prompt_ids": out["prompt_ids"]})
    close(output.aux["text_PKd"].transpose(0, 1), out["text_features"], of_max=3e-5)
    same_logits(output.logits, out["logits_mean"])
    same_logits(upper_logits(output, g.tensors["in.targets"]), out["logits_upper"])
    same_loss(losses.parts["upper"], out["loss_upper"])
    torch.testing.assert_close(losses.parts["orth"], out["loss_orth"], atol=3e-6 + 3e-6, rtol=0)
    same_loss(losses.total, out["loss_total"])
    close(method.ctx.grad, g.tensors[f"{step}.grad.ctx"], of_max=3e-5)

    method.ctx.grad = None
    output = method(g.tensors["in.images"], draws={"prompt_ids": out["prompt_ids"]})
    F.cross_entropy(upper_logits(output, g.tensors["in.targets"]), g.tensors["in.targets"]).backward()
    close(method.ctx.grad, g.tensors[f"{step}.grad_upper.ctx"], of_max=3e-5)


def test_proda_inference():
    g, _ = golden("proda")
    method = build("proda", "proda", {"n_prompts": 8}, g.group("param.")).eval()
    text = method.frozen_text()
    close(text.unit_PKd.mean(dim=0), g.tensors["out.classifier"], of_max=3e-5)
    same_logits(method(g.tensors["in.images"], text=text).logits, g.tensors["out.logits"])


# -- PromptSRC -------------------------------------------------------------------------------------------
def src_tensors(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's tensors under our names."""
    text = {n: t for n, t in group.items() if n.startswith("text_encoder.")}
    vision = {n: t for n, t in group.items() if n.startswith("image_encoder.transformer.")}
    return {
        "text_prompts": layers(group["prompt_learner.ctx"], text),
        "visual_prompts": layers(group["image_encoder.VPT"], vision),
    }


def src_options() -> dict[str, object]:
    names = ("n_ctx_text", "n_ctx_vision", "depth_text", "depth_vision", "ctx_init")
    return {name: golden("promptsrc")[0].settings["hyper"][name] for name in names}


@pytest.mark.parametrize("given", [False, True], ids=["own-teacher", "given-teacher"])
def test_promptsrc(given):
    g, _ = golden("promptsrc")
    out = g.group("out.")
    method = build("promptsrc", "promptsrc", src_options(), src_tensors(g.group("param.")))
    close(method.teacher_text_Kd, out["frozen_text_features"], of_max=3e-5)
    if given:
        method.teacher_text_Kd = out["frozen_text_features"]
    output, losses = run(method, "promptsrc")
    close(output.aux["text_PKd"][0], out["text_features"], of_max=3e-5)
    close(output.aux["image_Bd"], out["image_features"], of_max=3e-5)
    close(output.aux["frozen_Bd"], out["frozen_image_features"], of_max=3e-5)
    same_logits(output.logits, out["logits"])
    for part, reference in (("ce", "ce"), ("text", "scl_text"), ("image", "scl_image"), ("logits", "scl_logits")):
        same_loss(losses.parts[part], out[f"loss_{reference}"], atol=1e-6)
    same_loss(losses.total, out["loss_total"])
    for name, reference in src_tensors(g.group("grad.")).items():
        close(grad(method, name), reference, of_max=3e-5)


@pytest.mark.parametrize(("epochs", "mean", "std"), [(20, 15, 1), (50, 30, 30), (5, 3, 2)])
def test_promptsrc_epoch_weights(epochs, mean, std):
    from vlmprompt_baselines.promptsrc import epoch_weights

    reference = golden("promptsrc")[0].tensors[f"out.gpa_E{epochs}_mu{mean}_sd{std}"]
    torch.testing.assert_close(epoch_weights(epochs, mean, std), reference, atol=1e-14, rtol=1e-12)


# -- IVLP ------------------------------------------------------------------------------------------------
def test_ivlp_has_promptsrcs_prompts():
    """Its block code is PromptSRC's: the same features and cross-entropy."""
    g, _ = golden("promptsrc")
    out = g.group("out.")
    method = build("promptsrc", "ivlp", src_options(), src_tensors(g.group("param.")))
    output, losses = run(method, "promptsrc")
    same_logits(output.logits, out["logits"])
    same_loss(losses.total, out["loss_ce"])
