"""Zero-shot CLIP against open_clip's own encode_image and encode_text."""

from __future__ import annotations

import open_clip
import pytest
import torch
from torch.nn import functional as F

from vlmprompt.config.templates import CLIP7
from vlmprompt.errors import UsageError
from vlmprompt.methods.build import build_method

NAMES = ["cat", "red_panda", "tench, fish"]


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def reference(model, templates: list[str]) -> torch.Tensor:
    """Logits: mean over templates of unit text features, normalised again."""
    units = []
    for template in templates:
        texts = [template.replace("{}", name.replace("_", " ")) for name in NAMES]
        units.append(F.normalize(model.encode_text(open_clip.tokenize(texts)), dim=-1))
    text_Kd = F.normalize(torch.stack(units).mean(dim=0), dim=-1)
    return model.logit_scale.exp() * F.normalize(model.encode_image(images()), dim=-1) @ text_Kd.T


@pytest.mark.parametrize(
    ("options", "templates"),
    [
        ({}, ["a photo of a {}."]),
        ({"template": "{} texture."}, ["{} texture."]),
        ({"ensemble": "clip7"}, list(CLIP7)),
        ({"ensemble": "clip7+template", "template": "{} texture."}, [*CLIP7, "{} texture."]),
    ],
)
def test_logits(tiny_model, tiny_backbone, options, templates):
    method = build_method("zeroshot", tiny_backbone, NAMES, options)
    output = method(images())
    expected = reference(tiny_model, templates)
    torch.testing.assert_close(output.logits, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(output.global_cosines * output.scale, output.logits)
    torch.testing.assert_close(method(images(), text=method.frozen_text()).logits, output.logits)


def test_other_classes_come_in_their_data_sets_template(tiny_backbone):
    """Unless the option says which template to use."""
    expected = build_method("zeroshot", tiny_backbone, ["cat"], {"template": "{} texture."}).encode_text()
    plain = build_method("zeroshot", tiny_backbone, NAMES)
    theirs = plain.with_classes(["cat"], template="{} texture.")
    assert torch.equal(theirs.encode_text().features_PKd, expected.features_PKd)
    assert theirs.class_names == ("cat",)
    assert plain.class_names == tuple(NAMES)
    asked = build_method("zeroshot", tiny_backbone, NAMES, {"template": "{} texture."})
    own = asked.with_classes(["cat"], template="a bad photo of the {}.")
    assert torch.equal(own.encode_text().features_PKd, expected.features_PKd)


@pytest.mark.parametrize("template", ["a photo.", "{} and {}"])
def test_template_needs_one_place_for_the_name(tiny_backbone, template):
    with pytest.raises(UsageError, match=r"option template = .* must hold exactly one \{\}"):
        build_method("zeroshot", tiny_backbone, NAMES, {"template": template})
