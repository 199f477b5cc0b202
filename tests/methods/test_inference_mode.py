"""`torch.inference_mode` around a first call leaves nothing behind that training stumbles over."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.backbones import serving
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.testing import tiny_clip

NAMES = ("red fox", "green frog", "blue whale", "grey wolf")
DESCRIPTIONS = [["it has fur", "a bushy tail"], ["green skin"], ["it is large", "it swims"], ["grey fur"]]
IMAGES = torch.sin(torch.arange(4 * 3 * 64 * 64.0)).reshape(4, 3, 64, 64)


def images_of(backbone: Backbone) -> Tensor:
    side = backbone.preprocess.size
    return IMAGES[..., :side, :side]


def train_a_step(method: PromptMethod) -> None:
    """A step of what a method learns; nothing where it learns nothing by steps."""
    method.train()
    method.start_epoch(0, 1)
    draws = method.sample_draws()
    total = method.loss(method(images_of(method.backbone), draws=draws), torch.arange(4), draws=draws).total
    learnt = [p for p in method.trainable_parameters() if p.numel()]  # some are empty before a fit
    if learnt and total.requires_grad:
        grads = torch.autograd.grad(total, learnt, allow_unused=True)
        assert any(grad is not None and grad.abs().max() > 0 for grad in grads)
        for parameter in learnt:
            parameter.data -= 0.1


def inference_tensors() -> Iterator[Tensor]:
    """Those that anything still holds."""
    gc.collect()
    # By type alone: to ask every object for its class wakes deprecated ones of torch's.
    return (thing for thing in gc.get_objects() if issubclass(type(thing), Tensor) and thing.is_inference())


def fresh(kind: str, tokenizer: object) -> Backbone:
    """A tiny backbone of its own: nobody has called it before."""
    if kind in IMAGE_TOWERS:
        return serving.image_backbone(kind)
    if kind in serving.ENCODERS.values():
        pytest.importorskip("transformers")
        return serving.encoder_backbone(kind)
    if kind in serving.TEXT_KINDS.values():
        return serving.text_backbone(kind)
    return Backbone.from_model(tiny_clip(resnet=kind == "resnet", seed=3), tokenizer, name=f"tiny-{kind}")


# Of towers that keep something beside their weights (a pool's own path, positions), a method that reads all of it.
IMAGE_TOWERS = {"coca": "maple", "siglip": "gallop", "pe_core": "maple", "eva02": "maple", "relpos": "maple"}
IMAGE_TOWERS |= {"convnext": "gallop", "swin": "gallop"}
TEXT_TOWERS = {"ViT-B-16-SigLIP2": "maple", "MobileCLIP2-S0": "cocoop", "coca_ViT-B-32": "maple"}
TEXT_TOWERS |= {"roberta": "cocoop", "mt5": "coop"}
CASES = [("vit", "bloom"), ("vit", "gallop"), ("resnet", "dual_pt"), ("resnet", "coop")]
CASES += [*IMAGE_TOWERS.items(), *TEXT_TOWERS.items()]

HOLDER: list[Tensor] = []


@pytest.fixture(scope="module", autouse=True)
def _only_what_is_new() -> Iterator[None]:
    """The search for tensors passes over what was there before: a million objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_training_after_a_first_call_under_inference_mode(kind: str, name: str, tokenizer: object) -> None:
    backbone = fresh(kind, tokenizer)
    options = {"topk": [1, 2]} if name == "gallop" else {}
    try:
        with torch.inference_mode():
            method = build_method(name, backbone, NAMES, options, descriptions=DESCRIPTIONS)
            method.eval()(images_of(backbone))
            if "new_classes" in method.capabilities:
                other = method.with_classes(NAMES[:2], descriptions=DESCRIPTIONS[:2])
                other(images_of(backbone))
    except Exception as error:
        if "needs" in str(error):
            pytest.skip(str(error))
        raise
    train_a_step(method)
    train_a_step(build_method(name, backbone, NAMES, options, descriptions=DESCRIPTIONS))
    assert not [*inference_tensors()]


@pytest.mark.parametrize("kind", ["vit", "resnet", *IMAGE_TOWERS, *TEXT_TOWERS])
def test_a_backbone_made_under_inference_mode(kind: str, tokenizer: object) -> None:
    with torch.inference_mode():
        backbone = fresh(kind, tokenizer)
        backbone.encode_image(images_of(backbone), ImageNeeds(local="tokens"))
        backbone.text.encode_template("a photo of a {}.", NAMES)
    train_a_step(build_method("coop", backbone, NAMES))
    assert not [*inference_tensors()]


def test_the_search_finds_one_that_something_old_holds() -> None:
    with torch.inference_mode():
        HOLDER.append(torch.zeros(2))
    assert [id(found) for found in inference_tensors()] == [id(HOLDER[0])]
    HOLDER.clear()
    assert not [*inference_tensors()]
