"""Bloom's values and all of its gradients against the plain loop of `plain.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import open_clip
import pytest
import torch
from torch.nn import functional as F

from tests.bloom import plain
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.testing import tiny_clip

NAMES = ["horse", "tench, fish", "red_panda", "a photo of a cat"]
LABELS = torch.tensor([0, 3])
FUSIONS = ("gate", "add", "concat", "routing")
WAYS = list(itertools.product(FUSIONS, ("both", "v2l", "l2v")))


@pytest.fixture(scope="module", autouse=True)
def _in_double_precision() -> Iterator[None]:
    """A gate's gradient is a difference of sums, which single precision rounds otherwise on each kind of CPU."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tiny_clip(vision_layers=4, text_layers=4, seed=3)


@pytest.fixture(scope="module")
def backbone(model: torch.nn.Module) -> Backbone:
    return Backbone.from_model(model, open_clip.SimpleTokenizer(), name="tiny-4")


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def stirred(backbone: Backbone, options: dict[str, object]) -> PromptMethod:
    """A method far from its initial values, where own and cross prompts differ and gates are not equal."""
    method = build_method("bloom", backbone, NAMES, options, generator=torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(2)
    for parameter in method.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=g)
    return method.train()


def compare(model, backbone, options: dict[str, object], **where: object) -> None:
    method = stirred(backbone, options)
    draws = method.sample_draws()
    output = method(images(), draws=draws)
    loss = method.loss(output, LABELS).total
    loss.backward()

    state = {name: t.clone().requires_grad_() for name, t in method.trainable_state().items()}
    fusion, direction = str(options.get("fusion", "gate")), str(options.get("direction", "both"))
    visual, text = plain.fused_prompts(state, fusion, direction, draws)
    expected = plain.logits(model, open_clip.tokenize, images(), NAMES, visual, text, **where)
    F.cross_entropy(expected, LABELS).backward()

    torch.testing.assert_close(output.logits, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(output.logits, output.global_cosines * output.scale)
    ours = dict(method.named_parameters())
    assert ours.keys() == state.keys()
    for name, reference in state.items():
        assert reference.grad is not None and ours[name].grad is not None, name
        error = (ours[name].grad - reference.grad).abs().max()
        assert error <= 1e-9 * reference.grad.abs().max() + 1e-12, (name, error, reference.grad.abs().max())


@pytest.mark.parametrize(("fusion", "direction"), WAYS)
@pytest.mark.parametrize("n_ctx", [1, 2, 4, 6])
def test_depth_3_of_4(model, backbone, n_ctx, fusion, direction):
    compare(model, backbone, {"depth": 3, "d_m": 8, "n_ctx": n_ctx, "fusion": fusion, "direction": direction})


@pytest.mark.parametrize(("fusion", "direction"), WAYS)
@pytest.mark.parametrize("n_ctx", [1, 2, 4, 6])
def test_interval_2_to_4(model, backbone, n_ctx, fusion, direction):
    options = {"interval": [2, 4], "d_m": 8, "n_ctx": n_ctx, "fusion": fusion, "direction": direction}
    compare(model, backbone, options, first=1)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n_ctx", [3, 5, 7, 8])
def test_other_lengths_leave_class_names_alone(model, backbone, n_ctx, fusion):
    compare(model, backbone, {"depth": 3, "d_m": 8, "n_ctx": n_ctx, "fusion": fusion})


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"after_ln_pre": True}, {"after_ln_pre": True}),
        ({"drop_after": True}, {"drop_after": True}),
        ({"drop_after": True, "interval": [2, 3]}, {"drop_after": True, "first": 1}),
        ({"bias": False}, {}),
        ({"depth": 4}, {}),
    ],
)
def test_settled_points_that_are_options(model, backbone, options, where):
    base: dict[str, object] = {} if {"interval", "depth"} & options.keys() else {"depth": 2}
    compare(model, backbone, base | {"d_m": 8} | options, **where)


def test_routing_temperature_changes_the_gradient_only(backbone):
    """Values are a hard choice; the gates' gradient is that of softmax((G + noise) / T)."""
    grads = {}
    for temperature in (1.0, 2.0):
        options = {"fusion": "routing", "depth": 2, "d_m": 8, "temperature": temperature}
        method = stirred(backbone, options)
        draws = {name: torch.tensor([[0.3, -0.2], [-1.0, 1.0]]) for name in ("gumbel_v", "gumbel_l")}
        output = method(images(), draws=draws)
        output.logits.square().sum().backward()
        grads[temperature] = (output.logits.detach(), method.gate_v.grad)
    torch.testing.assert_close(grads[1.0][0], grads[2.0][0])
    assert not torch.allclose(grads[1.0][1], grads[2.0][1])


def test_routing_without_noise_takes_the_larger_gate(backbone):
    method = build_method("bloom", backbone, NAMES, {"fusion": "routing", "depth": 2}).eval()
    state = method.trainable_state()
    method.gate_v.data[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    prompts = method.visual_prompts()
    own_JLd = state["visual_prompts"]
    cross_Ld = plain.fused_prompts(state, "add", "both", {})[0][1] - own_JLd[1]
    torch.testing.assert_close(prompts[0], own_JLd[0], atol=0, rtol=0)
    torch.testing.assert_close(prompts[1], cross_Ld, atol=1e-6, rtol=0)
    assert torch.equal(method(images()).logits, method(images()).logits)
