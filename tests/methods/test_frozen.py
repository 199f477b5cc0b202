"""Frozen methods: the plain path's values with the text encoded once, and nothing kept that spoils training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.methods.build import build_method, list_methods
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.stream_order import is_streamed

NAMES = ("cat", "red_panda", "tench, fish")
PHRASES = (("soft fur", "long whiskers"), ("a ringed tail",), ("scales",))
# What a tiny tower needs, and variants that read the image or the classes in another way.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in list_methods() if not is_streamed(name)},  # of these see test_streaming
    "gallop": ("gallop", {"topk": [1, 2, 4, 8]}),
    "dual_pt": ("dual_pt", {"sinkhorn_lambda": 1.0}),
    "dual_pt conditional": ("dual_pt", {"conditional": True, "sinkhorn_lambda": 1.0}),
    "dual_pt cam": ("dual_pt", {"context": "cam", "align": "attn"}),
    "descriptions of cosines": ("descriptions", {"average": "cosines"}),
    "coop of each class": ("coop", {"class_specific": True}),
}


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def stirred(variant: str, backbone: Backbone) -> PromptMethod:
    """A method whose learned state is not its initial one."""
    name, options = VARIANTS[variant]
    method = build_method(name, backbone, NAMES, options, descriptions=PHRASES)
    generator = torch.Generator().manual_seed(2)
    for tensor in method.trainable_state().values():
        if tensor.is_floating_point():
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
    return method


def plain(method: PromptMethod, batch: Tensor | ImageFeatures) -> MethodOutput:
    method.eval()
    with torch.no_grad():
        return method(batch)


def tensors_of(output: MethodOutput) -> dict[str, Tensor]:
    local = {} if output.local is None else {"local": output.local.features_BNd, "classes": output.local.classes}
    cosines = {} if output.global_cosines is None else {"cosines": output.global_cosines}
    return {"logits": output.logits, **cosines, **local, **{f"aux.{k}": v for k, v in output.aux.items()}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_are_those_of_the_plain_path(variant: str, tiny_backbone: Backbone) -> None:
    method = stirred(variant, tiny_backbone)
    expected = tensors_of(plain(method, images()))
    method.train()
    frozen = method.frozen()
    for _ in range(2):
        found = tensors_of(frozen(images()))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items()), variant
        assert not any(value.requires_grad for value in found.values())
    assert method.training


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_text_is_encoded_once_or_it_says_so(
    variant: str, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = TextEngine.encode

    def counted(self: TextEngine, *args: Any, **more: Any) -> Tensor:
        calls.append(1)
        return encode(self, *args, **more)

    frozen = stirred(variant, tiny_backbone).frozen()
    frozen(images())
    monkeypatch.setattr(TextEngine, "encode", counted)
    for _ in range(3):
        frozen(images())
    per_image = "image_conditioned" in frozen.method.capabilities
    assert len(calls) == (3 if per_image else 0)
    assert (frozen.text is None) == (per_image or variant == "linear_probe")
    assert ("text encoded" in repr(frozen)) == (frozen.text is not None)


def test_what_is_learned_later_does_not_reach_it(tiny_backbone: Backbone) -> None:
    for variant in ("cocoop", "maple", "gallop"):
        method = stirred(variant, tiny_backbone)
        frozen, before = method.frozen(), plain(method, images()).logits
        for parameter in method.parameters():
            parameter.data += torch.linspace(-0.5, 0.5, parameter.shape[-1])
        assert torch.equal(frozen(images()).logits, before), variant
        assert not torch.allclose(method.frozen()(images()).logits, before), variant


def test_features_and_options_go_through(tiny_backbone: Backbone) -> None:
    method = stirred("gallop", tiny_backbone).eval()
    features = method.encode_images(images())
    frozen = method.frozen()
    assert torch.equal(frozen(features, branch="local").logits, method(features, branch="local").logits)
    assert not torch.equal(frozen(features, branch="local").logits, frozen(features).logits)


def test_other_classes_and_local_features_can_be_frozen(tiny_backbone: Backbone) -> None:
    other = stirred("coop", tiny_backbone).with_classes(["ash", "elm"]).with_local()
    output = other.frozen()(images())
    assert output.logits.shape == (3, 2) and output.local is not None
    assert torch.equal(output.local.features_BNd, plain(other, images()).local.features_BNd)  # type: ignore[union-attr]
