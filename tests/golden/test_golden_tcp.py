"""TCP against the official code's numbers: class tokens, features, logits, losses, gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.golden.golden import close, load
from vlmprompt.methods.build import build_method


def ours(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's tensors under our names."""
    return {name.replace("linear1", "0").replace("linear2", "2"): tensor for name, tensor in group.items()}


def test_features_logits_losses_and_gradients() -> None:
    g = load("tcp")
    backbone, hyper, out = g.backbone(), g.settings["hyper"], g.group("out.")
    options = {
        "n_ctx": hyper["n_ctx"],
        "n_class_tokens": hyper["n_class_tokens"],
        "layer": hyper["inject_block"],
        "weight": hyper["w"],
        "template": hyper["template_learned"],
        "teacher_template": hyper["template_frozen"],
    }
    method = build_method("tcp", backbone, g.names, options)
    method.load_trainable_state(ours(g.group("param.")))
    prompts = method.text_prompts()
    assert prompts is not None and set(prompts.deep) == {hyper["inject_block"]}
    close(method.teacher_text_Kd, out["frozen_text_features"], of_max=3e-5)
    close(prompts.deep[hyper["inject_block"]][:, 0], out["class_prompt"], of_max=3e-5)
    close(method.encode_text().features_PKd[0], out["text_features"], of_max=3e-5)
    output = method(g.tensors["in.images"])
    torch.testing.assert_close(output.logits, out["logits"], atol=5e-5, rtol=0)
    losses = method.loss(output, g.tensors["in.targets"])
    torch.testing.assert_close(losses.parts["ce"], out["loss_ce"], atol=0, rtol=1e-5)
    torch.testing.assert_close(losses.parts["distance"], out["distance"], atol=3e-6, rtol=0)
    torch.testing.assert_close(losses.total, out["loss"], atol=0, rtol=1e-5)
    losses.total.backward()
    parameters, grads = dict(method.named_parameters()), ours(g.group("grad."))
    assert grads.keys() == parameters.keys()
    for name, reference in grads.items():
        gradient = parameters[name].grad
        assert gradient is not None
        close(gradient, reference, of_max=3e-5)
