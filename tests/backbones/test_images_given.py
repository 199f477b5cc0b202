"""What `encode_image` takes: floats of any precision in the tower's size, and a clear word on everything else."""

from __future__ import annotations

import pytest
import torch

from vlmprompt.api import Backbone, InputError, build_method


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_images_of_any_precision_are_taken_in_that_of_the_weights(
    tiny_backbone: Backbone, images: torch.Tensor
) -> None:
    expected = tiny_backbone.encode_image(images).global_Bd
    assert torch.equal(tiny_backbone.encode_image(images.double()).global_Bd, expected)
    half = images.half()
    assert torch.equal(tiny_backbone.encode_image(half).global_Bd, tiny_backbone.encode_image(half.float()).global_Bd)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.zeros(3, 32, 32), r"float32 of shape \(3, 32, 32\)"),
        (torch.zeros(2, 1, 32, 32), r"float32 of shape \(2, 1, 32, 32\)"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), r"uint8 of shape \(2, 3, 32, 32\)"),
        (torch.zeros(2, 3, 40, 32), "40 x 32 pixels .* built for 32 x 32"),
    ],
)
def test_other_tensors_are_refused_and_nobodys_plugin_is_blamed(
    tiny_backbone: Backbone, given: torch.Tensor, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        build_method("zeroshot", tiny_backbone, ["cat", "dog"])(given)


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "a {name} {}"])
def test_a_template_holds_one_place_for_the_name(tiny_backbone: Backbone, template: str) -> None:
    with pytest.raises(InputError, match=r"must hold (exactly one|no braces but the one) \{\}"):
        build_method("zeroshot", tiny_backbone, ["cat", "dog"], template=template)
    method = build_method("zeroshot", tiny_backbone, ["cat", "dog"])
    with pytest.raises(InputError, match=r"must hold (exactly one|no braces but the one) \{\}"):
        method.with_classes(["owl"], template=template)
