"""TaskRes by hand; its texts: not normalised, underscores kept."""

from __future__ import annotations

import torch

from tests.adapters.feature_cases import NAMES, axes, blobs, build
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method


def test_two_images_by_hand(tiny_backbone):
    """t + 0.5 x = (2, 1) and (0, 4): the text's length counts."""
    method = build_method("taskres", tiny_backbone, ["a", "b"], {"alpha": 0.5})
    method.text_Kd = axes({0: 2}, {1: 3})
    method.load_trainable_state({"residual": axes({1: 2}, {1: 2})})
    output = method(ImageFeatures(axes({0: 3, 1: 4}, {0: -2})))
    expected = torch.tensor([[(3 * 2 + 4) / (5 * 5**0.5), 0.8], [-2 / 5**0.5, 0.0]])
    torch.testing.assert_close(output.global_cosines, expected)
    torch.testing.assert_close(output.logits, tiny_backbone.scale * expected)


def test_it_starts_at_the_text(tiny_backbone):
    method = build(tiny_backbone, "taskres", keep_underscores=False)
    features, labels = blobs(2, seed=1)
    zero_shot = build_method("zeroshot", tiny_backbone, NAMES)
    torch.testing.assert_close(method(features).logits, zero_shot(features).logits)
    method.loss(method(features), labels).total.backward()
    assert method.residual.grad.abs().sum(dim=1).min() > 0


def test_texts_are_averaged_with_their_lengths_and_underscores(tiny_backbone):
    texts = ("a photo of a {}.", "{} texture.", "a drawing of the {}")
    encode = tiny_backbone.text.encode_sentences
    raw_TKd = torch.stack([encode([text.replace("{}", name) for name in NAMES]) for text in texts])
    assert raw_TKd.norm(dim=-1).std() > 0  # else this would not tell
    method = build(tiny_backbone, "taskres", templates=texts)
    torch.testing.assert_close(method.text_Kd, raw_TKd.mean(dim=0), atol=1e-5, rtol=1e-4)
    spaced = build(tiny_backbone, "taskres", templates=texts, keep_underscores=False)
    apart_K = (spaced.text_Kd - method.text_Kd).norm(dim=1)
    assert apart_K[1] > 1e-3 and apart_K[[0, 2]].max() < 1e-5


def test_the_data_sets_template_is_taken_unless_others_are_given(tiny_backbone):
    given = build_method("taskres", tiny_backbone, NAMES, template="{} texture.")
    named = build(tiny_backbone, "taskres", templates=("{} texture.",))
    assert torch.equal(given.text_Kd, named.text_Kd)
    assert not torch.equal(given.text_Kd, build(tiny_backbone, "taskres").text_Kd)
