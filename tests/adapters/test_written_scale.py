"""Methods whose codes write 100 use it on towers of any scale; features and labels of any dtype fit alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.api import Backbone, ImageFeatures, InputError, build_method

NAMES = ["cat", "red_panda", "tench, fish"]
TEMPLATE = "a photo of a {}."


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def cosines_BK(tiny_backbone: Backbone, images: Tensor) -> Tensor:
    """Of CLIP's own features."""
    text_Kd = tiny_backbone.text.encode_template(TEMPLATE, NAMES)
    return F.cosine_similarity(tiny_backbone.encode_image(images).global_Bd[:, None], text_Kd[None], dim=-1)


def test_clip_lora(tiny_backbone: Backbone, images: Tensor, cosines_BK: Tensor) -> None:
    assert abs(tiny_backbone.scale - 100) > 1
    method = build_method("clip_lora", tiny_backbone, NAMES).eval()  # at the start it is CLIP
    output = method(images)
    torch.testing.assert_close(output.logits, 100 * cosines_BK, atol=2e-4, rtol=0)
    labels = torch.tensor([0, 1, 2])
    torch.testing.assert_close(method.loss(output, labels).total, F.cross_entropy(100 * cosines_BK, labels))


def test_mmrl(tiny_backbone: Backbone, images: Tensor) -> None:
    method = build_method("mmrl", tiny_backbone, NAMES, {"reg_weight": 0.0}).train()
    output, labels = method(images), torch.tensor([2, 0, 1])
    text_Kd = method.encode_text().features_PKd[0]
    features = method.encode_images(images)
    assert features.prompts_BLC is not None
    rep_Bd = features.prompts_BLC.mean(dim=1) @ method.proj_rep
    own_BK, rep_BK = (
        100 * F.normalize(f, dim=-1) @ F.normalize(text_Kd, dim=-1).T for f in (features.global_Bd, rep_Bd)
    )
    torch.testing.assert_close(output.logits, 0.7 * own_BK + 0.3 * rep_BK, atol=2e-4, rtol=0)
    expected = 0.7 * F.cross_entropy(own_BK, labels) + 0.3 * F.cross_entropy(rep_BK, labels)
    torch.testing.assert_close(method.loss(output, labels).total, expected, atol=0, rtol=1e-5)
    other = method.eval().with_classes(NAMES[:2])(images)
    torch.testing.assert_close(other.logits, own_BK[:, :2], atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f", "lp_plus_plus", "clap"])
def test_fits_do_not_depend_on_dtypes(tiny_backbone: Backbone, images: Tensor, name: str) -> None:
    given = {"lp_plus_plus": {"epochs": 12}, "clap": {"epochs": 4, "views": 1}}.get(name, {"views": 1})
    features_Nd = tiny_backbone.encode_image(images).global_Bd
    labels_N = torch.tensor([0, 1, 2])

    def fitted(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        method = build_method(name, tiny_backbone, NAMES, given)
        method.fit(ImageFeatures(features), labels, None)
        return dict(method.trainable_state())

    usual, other = fitted(features_Nd, labels_N), fitted(features_Nd.double(), labels_N.int())
    assert {key: t.dtype for key, t in usual.items()} == {key: t.dtype for key, t in other.items()}
    for key, tensor in usual.items():
        torch.testing.assert_close(other[key], tensor, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="training features that are a Tensor"):
        build_method(name, tiny_backbone, NAMES, given).fit(features_Nd, labels_N, None)
