"""CLAP: multipliers by hand and in their variants, the penalty, what an epoch draws, the schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.adapters.feature_cases import NAMES, axes, blobs, build
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt_adapters import clap

IMAGES = ImageFeatures(axes({0: 3, 1: 4}, {0: 7}, {1: 2}))
LABELS = torch.tensor([0, 0, 1])


def by_hand(backbone, kind: str) -> PromptMethod:
    """Text (2, 0) and (0, 5); unit images (0.6, 0.8), (1, 0), (0, 1)."""
    method = build_method("clap", backbone, ["a", "b"], {"multipliers": kind, "epochs": 1})
    method.text_Kd = axes({0: 2}, {1: 5})
    method.fit(IMAGES, LABELS, None)
    return method


def test_multipliers_by_hand(tiny_backbone):
    """Probabilities of the true class: sigmoid of s times -0.2, 1 and 1."""
    s = tiny_backbone.scale
    p = [1 / (1 + math.exp(-s * x)) for x in (-0.2, 1, 1)]
    known = torch.tensor([(p[0] + p[1]) / 2, p[2]])
    expected = {
        "default": known,
        "adaptive": known,  # after one epoch
        "balanced": torch.ones(2),
        "corrected": known / known.mean(),
        "constant": known.mean().expand(2),
    }
    for kind, reference in expected.items():
        torch.testing.assert_close(by_hand(tiny_backbone, kind).multipliers, reference)


def test_penalty_is_on_lengths_too(tiny_backbone):
    method = by_hand(tiny_backbone, "default")
    multipliers = torch.tensor([0.5, 0.25])
    method.load_trainable_state({"prototypes": axes({0: 3, 1: 2}, {1: 10}), "multipliers": multipliers})
    losses = method.loss(method(IMAGES), LABELS)
    assert float(losses.parts["constraint"]) == pytest.approx((0.5 * (1 + 4) + 0.25 * 25) / 2)
    weighted = method.loss(method(IMAGES), LABELS, weights=torch.tensor([2.0, 0.0, 1.0]))
    assert float(weighted.parts["ce"]) != pytest.approx(float(losses.parts["ce"]))
    assert torch.equal(weighted.parts["constraint"], losses.parts["constraint"])


def test_before_the_fit_it_is_zero_shot_and_nothing_is_held(tiny_backbone):
    method = build(tiny_backbone, "clap", keep_underscores=False)
    features, labels = blobs(2, seed=1)
    zero_shot = build_method("zeroshot", tiny_backbone, NAMES)(features)
    torch.testing.assert_close(method(features).logits, zero_shot.logits)
    torch.testing.assert_close(method.loss(method(features), labels).total, F.cross_entropy(zero_shot.logits, labels))


@pytest.mark.parametrize("kind", ["default", "adaptive"])
def test_descent_of_few_images(tiny_backbone, kind):
    """One batch of all rows an epoch: SGD over the loss as it is written, the multipliers raised behind each epoch."""
    features, labels = blobs(4, seed=1)
    method = build(tiny_backbone, "clap", multipliers=kind, epochs=6, lr=0.05)
    text = method.text_Kd.double()
    z = F.normalize(features.global_Bd.double(), dim=1)
    p = (tiny_backbone.scale * z @ F.normalize(text, dim=1).T).softmax(dim=1)
    held = torch.stack([p[labels == k, k].mean() for k in range(3)])
    first, rho = held.clone(), torch.zeros(3, dtype=torch.double)
    w = nn.Parameter(text.clone())
    optimizer = torch.optim.SGD([w], lr=1.0, momentum=0.9)
    for epoch in range(6):
        optimizer.param_groups[0]["lr"] = 1e-5 if epoch == 0 else 0.025 * (1 + math.cos(math.pi * (epoch - 1) / 6))
        optimizer.zero_grad()
        logits = tiny_backbone.scale * z @ F.normalize(w, dim=1).T
        (F.cross_entropy(logits, labels) + (held * (w - text).square().sum(dim=1)).mean()).backward()
        optimizer.step()
        if kind == "adaptive":
            moved = (w.detach() - text).square().sum(dim=1)
            held, rho = held + rho * moved, moved
    record = method.fit(features, labels, None)
    assert record["steps"] == 6
    assert (w - text).norm() > 0.01 and (kind == "default") == torch.equal(held, first)
    torch.testing.assert_close(method.prototypes.detach().double(), w.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(method.multipliers.double(), held, atol=1e-5, rtol=1e-4)
    method.fit(features, labels, None)  # begins at the text again
    torch.testing.assert_close(method.prototypes.detach().double(), w.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("per_class", "views", "steps"), [(8, 2, 1), (8, 1, 2), (4, 1, 1), (2, 3, 1)])
def test_an_epoch_draws_as_many_rows_as_there_are_images(tiny_backbone, monkeypatch, per_class, views, steps):
    """Batches of 12, of 3 * per_class rows: V views of n images make max(1, n // 12) of them."""
    monkeypatch.setattr(clap, "BATCH", 12)
    sizes: list[int] = []
    method = build(tiny_backbone, "clap", views=views, epochs=5)
    plain = method.loss
    method.loss = lambda output, labels: sizes.append(len(labels)) or plain(output, labels)
    assert method.fit(*blobs(per_class, seed=1), None)["steps"] == 5 * steps
    assert sizes == [min(12, 3 * per_class)] * (5 * steps)


def test_rows_are_looked_at_in_parts(tiny_backbone, monkeypatch):
    whole, parts = (build(tiny_backbone, "clap") for _ in range(2))
    whole.fit(*blobs(5, seed=1), None)
    monkeypatch.setattr(clap, "ROWS_AT_A_TIME", 4)
    parts.fit(*blobs(5, seed=1), None)
    torch.testing.assert_close(parts.multipliers, whole.multipliers)


def test_one_seed_one_state(tiny_backbone, monkeypatch):
    monkeypatch.setattr(clap, "BATCH", 4)
    states = []
    for seed in (1, 1, 2):
        method = build(tiny_backbone, "clap", seed, views=2)
        method.fit(*blobs(6, seed=1), None)
        states.append(method.prototypes.detach())
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
