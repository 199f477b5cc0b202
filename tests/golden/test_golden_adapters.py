"""Methods on image features against the references' numbers: features, logits, losses, gradients, and fits."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.golden import Golden, close, load
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod


@cache
def golden(case: str) -> tuple[Golden, Backbone]:
    case_ = load(case)
    return case_, case_.backbone()


def same_logits(ours: Tensor, reference: Tensor, atol: float = 5e-5) -> None:
    torch.testing.assert_close(ours, reference, atol=atol, rtol=0)


def same_loss(ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-5)


def grad(method: PromptMethod, name: str) -> Tensor:
    gradient = dict(method.named_parameters())[name].grad
    assert gradient is not None
    return gradient


# -- Tip-Adapter -----------------------------------------------------------------------------------------
def tip(name: str, **options: Any) -> PromptMethod:
    """Fitted on the features of the two passes; alpha and beta searched where the options say so."""
    g, backbone = golden("tip_adapter")
    hyper, t = g.settings["hyper"], g.tensors
    given = {"templates": hyper["templates"], "views": hyper["augment_epoch"]}
    given |= {"alpha": hyper["alpha"], "beta": hyper["beta"]}
    given |= {"search_scale": hyper["search_scale"], "search_step": hyper["search_step"]}
    method = build_method(name, backbone, g.names, given | options)
    features = backbone.encode_image(t["in.train_images"].flatten(0, 1))
    val = backbone.encode_image(t["in.val_images"]), t["in.val_labels"]
    method.record = method.fit(features, t["in.train_labels"].repeat(hyper["augment_epoch"]), val)
    return method


def test_tip_adapter():
    t = golden("tip_adapter")[0].tensors
    method = tip("tip_adapter").eval()
    close(method.encode_text().unit_PKd[0].T, t["out.clip_weights"], of_max=3e-5)
    close(method.keys.T, t["out.cache_keys"], of_max=3e-5)
    assert torch.equal(F.one_hot(method.labels).float(), t["out.cache_values"])
    output = method(t["in.val_images"])
    close(output.aux["image_Bd"], t["out.val_features"], of_max=3e-5)
    same_logits(output.logits, t["out.val_logits_init"], atol=2e-4)
    method.keys, method.labels = method.keys[:0], method.labels[:0]
    same_logits(method(t["in.val_images"]).logits, t["out.val_logits_zero_shot"], atol=2e-4)


def test_tip_adapter_search():
    g, _ = golden("tip_adapter")
    hyper, t = g.settings["hyper"], g.tensors
    method = tip("tip_adapter", search="val").eval()
    assert (method.record["alpha"], method.record["beta"]) == (hyper["best_alpha"], hyper["best_beta"])
    output = method(t["in.test_images"])
    same_logits(output.logits, t["out.test_logits_best"], atol=2e-4)
    right = (output.logits.argmax(dim=1) == t["in.test_labels"]).double().mean()
    assert float(right) == pytest.approx(g.settings["acc"]["tip_test"] / 100)


def test_tip_adapter_f():
    g, _ = golden("tip_adapter")
    hyper, t = g.settings["hyper"]["F"], g.tensors
    method = tip("tip_adapter_f").train()
    close(method.keys, t["param.cache_keys"], of_max=3e-5)
    optimizer = torch.optim.AdamW(method.trainable_parameters(), eps=hyper["eps"], weight_decay=hyper["weight_decay"])
    images, labels = t["in.F_images"].split(hyper["batch_size"]), t["in.train_labels"].split(hyper["batch_size"])
    losses = []
    for step, lr in enumerate(hyper["lr_per_step"]):
        optimizer.param_groups[0]["lr"] = lr
        batch = step % len(images)
        output = method(images[batch])
        losses.append(method.loss(output, labels[batch]).total)
        optimizer.zero_grad()
        losses[-1].backward()
        if step == 0:
            same_logits(output.logits, t["F.out.logits0"], atol=2e-4)
            close(grad(method, "keys"), t["grad.cache_keys"], of_max=3e-5)
        optimizer.step()
        if step == 0:
            close(method.keys, t["after1.cache_keys"], of_max=1e-5)
    same_loss(torch.stack(losses).detach(), t["F.out.losses"])
    close(method.keys, t["afterN.cache_keys"], of_max=1e-5)
    same_logits(method.eval()(t["in.test_images"]).logits, t["F.out.test_logits_last"], atol=2e-4)


# -- CLIP-Adapter ----------------------------------------------------------------------------------------
def test_clip_adapter():
    g, backbone = golden("clip_adapter")
    hyper, t = g.settings["hyper"], g.tensors
    options = {"ratio": hyper["ratio"], "reduction": hyper["reduction"]}
    method = build_method("clip_adapter", backbone, g.names, options, template=hyper["template"])
    method.load_trainable_state(g.group("param."))
    raw_Bd = method.encode_images(t["in.images"]).global_Bd
    close(raw_Bd, t["out.image_features_raw"], of_max=3e-5)
    close(method.fc(raw_Bd), t["out.adapter"], of_max=3e-5)
    output = method(t["in.images"])
    text_Kd = F.normalize(t["out.text_features_raw"], dim=-1)
    close(output.aux["text_PKd"][0], text_Kd, of_max=3e-5)
    same_logits(output.logits, t["out.logits"])
    loss = method.loss(output, t["in.targets"]).total
    same_loss(loss, t["out.loss"])
    loss.backward()
    for name, reference in g.group("grad.").items():
        close(grad(method, name), reference, of_max=3e-5)


# -- TaskRes ---------------------------------------------------------------------------------------------
def taskres() -> PromptMethod:
    g, backbone = golden("taskres")
    hyper = g.settings["hyper"]
    (template,) = hyper["templates"]
    return build_method("taskres", backbone, g.names, {"alpha": hyper["alpha"]}, template=template)


@pytest.mark.parametrize("start", [True, False], ids=["zero", "random"])
def test_taskres(start):
    t = golden("taskres")[0].tensors
    method = taskres()
    if not start:
        method.load_trainable_state({"residual": t["param.text_feature_residuals"]})
    close(method.text_Kd, t["out.base_text_features"], of_max=3e-5)
    output = method(t["in.images"])
    same_logits(output.logits, t["out.logits_init" if start else "out.logits"])
    loss = method.loss(output, t["in.targets"]).total
    loss.backward()
    if not start:
        same_loss(loss, t["out.loss"])
    close(grad(method, "residual"), t[f"grad{'_init' if start else ''}.text_feature_residuals"], of_max=3e-5)


# -- LP++ ------------------------------------------------------------------------------------------------
def lpp(epochs: int) -> PromptMethod:
    """Over given text features, from the reference's random bias on."""
    g = load("lpp")
    hyper, t = g.settings["hyper"], g.tensors
    options = {"epochs": epochs, "alpha_every": hyper["alpha_every"], "alpha_factor": hyper["alpha_factor"]}
    _, backbone = golden("taskres")
    method = build_method("lp_plus_plus", backbone, [f"class {i}" for i in range(hyper["classes"])], options)
    method.text_Kd = t["in.text_weights"].T.contiguous()
    method.weight.data = method.weight.data[:, : hyper["dim"]]
    state = {name: tensor.flatten() if name == "alpha" else tensor for name, tensor in g.group("param.").items()}
    method.load_trainable_state(state)
    return method


def lpp_fitted(epochs: int) -> PromptMethod:
    t = load("lpp").tensors
    method = lpp(epochs)
    method.record = method.fit(ImageFeatures(t["in.train_features_raw"]), t["in.train_labels"], None)
    return method


def test_lpp_start():
    g = load("lpp")
    hyper, t = g.settings["hyper"], g.tensors
    method = lpp(1)
    output = method.classify(ImageFeatures(t["in.train_features_raw"]), method.encode_text())
    same_logits(output.logits, t["out.logits0"], atol=2e-4)
    method.loss(output, t["in.train_labels"]).total.backward()
    for name, reference in g.group("grad.").items():
        close(grad(method, name), reference.reshape(grad(method, name).shape), of_max=3e-5)
    fitted = lpp_fitted(1)
    assert fitted.record["lr_weight"] == pytest.approx(hyper["lr_w"], rel=1e-5)
    assert fitted.record["lr_alpha"] == pytest.approx(hyper["lr_alpha"], rel=1e-5)
    assert fitted.record["alpha_start"] == pytest.approx(hyper["alpha0"], rel=1e-5)
    close(fitted.weight, t["after1.weight"], of_max=1e-5)


def test_lpp_every_epoch():
    """A fit of e epochs ends where epoch e begins."""
    g = load("lpp")
    t, epochs = g.tensors, g.settings["hyper"]["epochs"]
    for epoch in range(1, epochs + 1):
        method = lpp_fitted(epoch)
        same_loss(torch.tensor(method.record["loss"]), t["out.losses"][epoch - 1])
        alpha = t["out.alpha_final"][0] if epoch == epochs else t["out.alpha_per_epoch"][epoch]
        close(method.alpha, alpha, of_max=1e-5)
        if epoch == 10:
            close(method.weight, t["after10.weight"], of_max=1e-5)
    close(method.weight, t["afterN.weight"], of_max=1e-5)
    close(method.bias, t["afterN.bias"], of_max=1e-5)
    logits = method.classify(ImageFeatures(t["in.test_features_raw"]), method.encode_text()).logits
    same_logits(logits, t["out.test_logits_final"], atol=2e-4)


# -- CLAP ------------------------------------------------------------------------------------------------
def clap(**options: Any) -> PromptMethod:
    """Fitted for the multipliers alone: one epoch, of the warm-up."""
    g, backbone = golden("clap")
    (template,) = g.settings["hyper"]["templates"]
    method = build_method("clap", backbone, g.names, {"epochs": 1, **options}, template=template)
    features = backbone.encode_image(g.tensors["in.train_images"])
    close(features.global_Bd, g.tensors["out.train_features_raw"], of_max=3e-5)
    method.fit(features, g.tensors["in.train_labels"], None)
    return method


@pytest.mark.parametrize("kind", ["default", "balanced", "corrected", "constant"])
def test_clap_multipliers(kind):
    t = golden("clap")[0].tensors
    method = clap(multipliers=kind)
    reference = t["out.lambda_l2" if kind == "default" else f"out.lambda_l2_{kind}"]
    torch.testing.assert_close(method.multipliers, reference, atol=1e-5, rtol=0)


def test_clap():
    g, backbone = golden("clap")
    hyper, t = g.settings["hyper"], g.tensors
    fresh = build_method("clap", backbone, g.names, template=hyper["templates"][0])
    close(fresh.prototypes, t["out.base_text_features"], of_max=3e-5)
    same_logits(fresh(t["in.train_images"]).logits, t["out.logits_zero_shot"])
    method = clap()
    method.load_trainable_state({"prototypes": t["param.prototypes"], "multipliers": method.multipliers})
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=hyper["lr"], momentum=hyper["momentum"])
    totals = []
    for step in range(hyper["steps"]):
        output = method(t["in.train_images"])
        losses = method.loss(output, t["in.train_labels"])
        optimizer.zero_grad()
        losses.total.backward()
        if step == 0:
            same_logits(output.logits, t["out.logits"])
            same_loss(losses.parts["constraint"], t["out.constraint"])
            same_loss(losses.total, t["out.loss"])
            close(grad(method, "prototypes"), t["grad.prototypes"], of_max=3e-5)
        optimizer.step()
        totals.append(losses.total.detach())
        if step == 0:
            close(method.prototypes, t["after1.prototypes"], of_max=1e-5)
    same_loss(torch.stack(totals), t["out.losses"])
    close(method.prototypes, t["after5.prototypes"], of_max=1e-5)
    same_logits(method(t["in.test_images"]).logits, t["out.test_logits_after5"])
