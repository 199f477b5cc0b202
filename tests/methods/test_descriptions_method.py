"""Zero-shot by descriptions, against open_clip's own encode_image and encode_text."""

from __future__ import annotations

import open_clip
import pytest
import torch
from torch.nn import functional as F

from vlmprompt.describe.lines import Sentence
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.build import build_method

NAMES = ["cat", "red_panda", "{class}"]
TEXTS = [["whiskers", "soft paws"], [Sentence("A red panda is small.")], ["braces {phrase}", "a {class}", "dots"]]
WRITTEN = [
    ["cat, which has whiskers", "cat, which has soft paws"],
    ["A red panda is small."],
    ["{class}, which has braces {phrase}", "{class}, which has a {class}", "{class}, which has dots"],
]


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def cosines(model, written: list[str]) -> torch.Tensor:
    """(B, n): of every image with every text."""
    image = F.normalize(model.encode_image(images()), dim=-1)
    return image @ F.normalize(model.encode_text(open_clip.tokenize(written)), dim=-1).T


def test_mean_of_features(tiny_model, tiny_backbone):
    method = build_method("descriptions", tiny_backbone, NAMES, descriptions=TEXTS)
    means = [F.normalize(tiny_model.encode_text(open_clip.tokenize(texts)), dim=-1).mean(dim=0) for texts in WRITTEN]
    text_Kd = F.normalize(torch.stack(means), dim=-1)
    expected = F.normalize(tiny_model.encode_image(images()), dim=-1) @ text_Kd.T
    output = method(images())
    torch.testing.assert_close(output.logits, tiny_model.logit_scale.exp() * expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(method(images(), text=method.frozen_text()).logits, output.logits)


def test_mean_of_cosines(tiny_model, tiny_backbone):
    method = build_method("descriptions", tiny_backbone, NAMES, {"average": "cosines"}, descriptions=TEXTS)
    expected = torch.stack([cosines(tiny_model, texts).mean(dim=1) for texts in WRITTEN], dim=1)
    torch.testing.assert_close(method(images()).global_cosines, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("{phrase}", "whiskers"),
        ("{phrase}.", "whiskers."),
        ("{class}: {phrase}; a {class}", "cat: whiskers; a cat"),
    ],
)
def test_the_words_around_a_phrase_can_be_chosen(tiny_model, tiny_backbone, template, written):
    method = build_method("descriptions", tiny_backbone, ["cat"], {"template": template}, descriptions=[["whiskers"]])
    expected = cosines(tiny_model, [written])
    torch.testing.assert_close(method(images()).global_cosines, expected, atol=2e-6, rtol=0)


def test_a_class_without_descriptions_is_its_name(tiny_model, tiny_backbone):
    method = build_method("descriptions", tiny_backbone, ["red_panda", "cat"], descriptions=[[], ["whiskers"]])
    expected = cosines(tiny_model, ["red panda", "cat, which has whiskers"])
    torch.testing.assert_close(method(images()).global_cosines, expected, atol=2e-6, rtol=0)


def test_other_classes_need_descriptions_of_their_own(tiny_backbone):
    method = build_method("descriptions", tiny_backbone, NAMES, descriptions=TEXTS)
    other = method.with_classes(["dog"], descriptions=[["a wet nose"]])
    fresh = build_method("descriptions", tiny_backbone, ["dog"], descriptions=[["a wet nose"]])
    torch.testing.assert_close(other(images()).logits, fresh(images()).logits)
    assert method(images()).logits.shape == (4, 3)
    with pytest.raises(InputError, match="needs descriptions of all its classes"):
        method.with_classes(["dog"])


def test_without_descriptions_there_is_no_method(tiny_backbone):
    with pytest.raises(InputError, match="needs descriptions") as caught:
        build_method("descriptions", tiny_backbone, NAMES)
    assert "describe-classes" in str(caught.value.hint)


def test_nothing_is_trained(tiny_backbone):
    method = build_method("descriptions", tiny_backbone, NAMES, descriptions=TEXTS)
    assert "training_free" in method.capabilities
    assert method.reads_descriptions(method.config) == "always"
    assert (list(method.parameters()), method.trainable_state()) == ([], {})


def test_a_template_needs_a_place_for_the_phrase(tiny_backbone):
    with pytest.raises(UsageError, match=r"exactly one \{phrase\}"):
        build_method("descriptions", tiny_backbone, NAMES, {"template": "{class} has"}, descriptions=TEXTS)
