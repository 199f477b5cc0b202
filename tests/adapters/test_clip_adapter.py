"""CLIP-Adapter by hand, and over other classes."""

from __future__ import annotations

import pytest
import torch

from tests.adapters.feature_cases import axes, blobs, build
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method


def test_two_images_by_hand(tiny_backbone):
    """Bottleneck of two units: h = relu(2 z0, -z1), a = relu(h0 - h1 along axis 0, h1 - h0 along axis 1)."""
    options = {"ratio": 0.4, "reduction": 16}
    method = build_method("clip_adapter", tiny_backbone, ["a", "b"], options)
    method.text_Kd = axes({0: 1}, {1: 1})
    weights = {"fc.0.weight": axes({0: 2}, {1: -1}), "fc.2.weight": axes({0: 1, 1: -1}, {0: -1, 1: 1}).T.contiguous()}
    method.load_trainable_state(weights)
    output = method(ImageFeatures(axes({0: 3, 1: 4}, {0: 1, 1: -5})))
    # First image: h = (6, 0), a = (6, 0), mixed (0.4 * 6 + 0.6 * 3, 0.6 * 4) = (4.2, 2.4).
    # Second image: h = (2, 5), a = (0, 3), mixed (0.6, 0.4 * 3 - 0.6 * 5) = (0.6, -1.8).
    mixed = torch.tensor([[4.2, 2.4], [0.6, -1.8]])
    expected = tiny_backbone.scale * mixed / mixed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(output.global_cosines, expected / tiny_backbone.scale)


def test_no_share_of_the_adapter_is_zero_shot(tiny_backbone):
    method = build(tiny_backbone, "clip_adapter", ratio=0.0)
    features, _ = blobs(2, seed=1)
    zero_shot = build_method("zeroshot", tiny_backbone, method.class_names)
    torch.testing.assert_close(method(features).logits, zero_shot(features).logits)


def test_other_classes_in_their_own_template(tiny_backbone):
    method = build(tiny_backbone, "clip_adapter").eval()
    other = method.with_classes(["fox", "great_owl"], template="a drawing of a {}.")
    fresh = build_method("clip_adapter", tiny_backbone, ["fox", "great_owl"], template="a drawing of a {}.").eval()
    fresh.load_trainable_state(method.trainable_state())
    features, _ = blobs(2, seed=1)
    assert torch.equal(other(features).logits, fresh(features).logits)
    assert method.text_Kd.shape == (3, 32) and all(
        p is q for p, q in zip(other.parameters(), method.parameters(), strict=True)
    )


@pytest.mark.parametrize(("reduction", "narrow"), [(4, 8), (5, 6), (1000, 1)])
def test_width_of_the_bottleneck(tiny_backbone, reduction, narrow):
    method = build(tiny_backbone, "clip_adapter", reduction=reduction)
    assert method.fc[0].weight.shape == (narrow, 32)
    assert method.fc[0].weight.abs().max() <= 32**-0.5 and method.fc[2].weight.abs().max() <= narrow**-0.5
