"""Tower deltas on every kind of block against copies of the towers that hold the changed weights: values, gradients."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones.image_towers import JOINT, KINDS, pictures
from tests.backbones.plain_deltas import changed, copied, made
from tests.backbones.test_image_kinds import MAPS, TAKES_PROMPTS, blocks_of, engine, own, tower, with_prompts
from tests.backbones.test_text import close
from tests.backbones.test_text_kinds import KINDS as TEXT_KINDS
from tests.backbones.text_kinds import SmallText
from vlmprompt.backbones.adapting import BlockDeltas
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.deltas import Bias, Bottleneck, LowRank, Norm, TowerDeltas
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.types import ImageNeeds, TextPrompts, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError

NAMES = ["horse", "red_panda", "2007 Chevrolet Silverado 1500 pickup"]
MERGEABLE = {"q": LowRank, "k": LowRank, "v": Bias, "o": LowRank, "fc": LowRank, "proj": LowRank, "ln_1": Norm}
ALL = (
    {**MERGEABLE, "adapter_attn": Bottleneck, "adapter_mlp": Bottleneck},
    {"q": Bias, "k": LowRank, "v": Bias, "o": Bias, "fc": Bias, "proj": Bias, "ln_2": Norm, "adapter_mlp": Bottleneck},
)


def of_tower(blocks: Any, kinds: Any = ALL) -> TowerDeltas:
    """Deltas for each of two blocks, for the parts that they have; no bias where the module could hold none."""
    deltas = {}
    for i, wanted in enumerate(kinds):
        places = blocks[i].places
        there = {part: kind for part, kind in wanted.items() if part in places}
        taken = {part: kind for part, kind in there.items() if kind is not Bias or places[part].bias is not None}
        deltas[i] = made(taken, {part: place.shape for part, place in places.items()}, seed=i)
    return TowerDeltas(deltas)


def same(ours: Tensor, reference: Tensor, inputs: list[Tensor]) -> None:
    """Values, and gradients that are all there.

    A gradient is a sum over all positions of terms that cancel: its last digits differ from processor to processor.
    """
    close(ours, reference)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9))
    pairs = [torch.autograd.grad((out * weights).sum(), inputs, retain_graph=True) for out in (ours, reference)]
    for a, b in zip(*pairs, strict=True):
        close(a, b, 1e-4)


@pytest.mark.parametrize("kind", TAKES_PROMPTS)
def test_an_image_tower_with_deltas_is_a_tower_of_other_weights(kind: str) -> None:
    images, vision = pictures(tower(kind)), engine(kind)
    blocks = vision.tower.blocks
    deltas = of_tower(blocks)
    assert len(deltas[0]) >= 6
    twin = copied(tower(kind))
    changed(blocks_of(twin), deltas)
    with torch.no_grad():
        before = vision.encode(images, ImageNeeds(), VisualPrompts()).global_Bd
    ours = vision.encode(images, ImageNeeds(grad=True), VisualPrompts(deltas=deltas)).global_Bd
    same(ours, own(twin, images), deltas.tensors())
    assert not torch.allclose(ours, before, rtol=1e-2)
    with torch.no_grad():
        assert torch.equal(vision.encode(images, ImageNeeds(), VisualPrompts()).global_Bd, before)


@pytest.mark.parametrize("kind", ["vit", "coca", "siglip", "eva02", "eva02_post_norm", "relpos"])
def test_local_features_and_prompts_meet_the_same_deltas(kind: str) -> None:
    """Of a copy with merged weights, whose engine knows no deltas."""
    images, vision = pictures(tower(kind)), engine(kind)
    blocks = vision.tower.blocks
    deltas = of_tower(blocks, (MERGEABLE, MERGEABLE))
    twin = copied(tower(kind))
    with torch.no_grad():
        changed(blocks_of(twin), deltas)
    merged = vision_engine(twin, JOINT, nullcontext, kind)
    g = torch.Generator().manual_seed(2)
    tokens = {i: torch.randn(3, vision.width, generator=g) for i in range(2)}
    with torch.no_grad():
        for local in ("value_block", "value_only", "tokens"):
            needs = ImageNeeds(local=local)
            ours = vision.encode(images, needs, VisualPrompts(deltas=deltas))
            theirs = merged.encode(images, needs, VisualPrompts())
            close(ours.global_Bd, theirs.global_Bd)
            close(ours.local_BNc, theirs.local_BNc)
        prompted = vision.encode(images, ImageNeeds(), VisualPrompts(tokens, after_ln_pre=True, deltas=deltas))
        close(prompted.global_Bd, with_prompts(twin, images, tokens))

    def target(features: Any) -> Tensor:
        return features.global_Bd[:, 0]

    ours = vision.class_map(images, ImageNeeds(), VisualPrompts(deltas=deltas), target)
    close(ours, merged.class_map(images, ImageNeeds(), VisualPrompts(), target), 1e-4)


@pytest.mark.parametrize(
    "kind",
    [
        "causal, end token",
        "causal, eos, no start",
        "causal, last position",
        "bidirectional, last",
        "bidirectional, first",
        "pads hidden",
        "class token",
    ],
)
def test_a_text_tower_with_deltas_is_a_tower_of_other_weights(kind: str) -> None:
    """Whole texts by the module itself, against a shared prefix and chunks that are computed again."""
    small = SmallText(*TEXT_KINDS[kind])
    text, twin = small.engine, copy.copy(small)
    deltas = of_tower(text.tower.blocks if hasattr(text.tower, "blocks") else text.tower.run.blocks)
    twin.model = copied(small.model)
    changed(list(getattr(twin.model, "text", twin.model).transformer.resblocks), deltas)
    before = small.encode_text(NAMES)
    prompts = TextPrompts(torch.empty(1, 0, 64), words="a photo of a", deltas=deltas)
    for chunk in ("auto", 1):
        ours = text.encode(prompts, text.class_tokens(NAMES), chunk=chunk)[0]
        reference = twin.encode_text([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
        same(ours, reference, deltas.tensors())
    assert torch.equal(small.encode_text(NAMES), before)
    assert all(not parameter.requires_grad for parameter in small.model.parameters())


@pytest.mark.parametrize("chunk", ["auto", 2])
def test_contexts_and_deltas_get_their_gradients_together(tiny_backbone: Backbone, chunk: Any) -> None:
    """Contexts of each class and each image, deep prompts, several positions: chunked as unchunked."""
    text = tiny_backbone.text
    g = torch.Generator().manual_seed(3)
    deltas = of_tower(text.tower.blocks)
    ctx = torch.randn(2, 3, 64, generator=g).requires_grad_()
    deep = torch.randn(2, 2, 64, generator=g).requires_grad_()
    classes = text.class_tokens(NAMES)
    prompts = [
        TextPrompts(ctx, deep={1: deep}, deltas=deltas),
        TextPrompts(ctx, position=("middle", "front"), deltas=deltas),
        TextPrompts(ctx[:, None], scope="image", deltas=deltas),
        TextPrompts(ctx[None].expand(3, -1, -1, -1), scope="class", deltas=deltas),
    ]
    for one in prompts:
        inputs = [ctx, *deltas.tensors()]
        ours = text.encode(one, classes, chunk=chunk)
        each = [text.encode(one_class(one, k), text.class_tokens([NAMES[k]])) for k in range(len(NAMES))]
        same(ours, torch.cat(each, dim=-2), inputs)


def one_class(prompts: TextPrompts, k: int) -> TextPrompts:
    if prompts.scope != "class":
        return prompts
    return TextPrompts(prompts.ctx[k : k + 1], scope="class", deltas=prompts.deltas)


# -- dropout -------------------------------------------------------------------------------------
def dropping(blocks: Any, seed: int | Tensor | None, *, rate: float = 0.4, parts: str = "qkvo") -> TowerDeltas:
    shapes = [{part: place.shape for part, place in block.places.items()} for block in blocks]
    made_ = {i: made(dict.fromkeys(parts, LowRank), shapes[i], seed=i, dropout=rate) for i in range(2)}
    return TowerDeltas(made_, seed=seed)


def test_dropout_is_the_same_where_a_chunk_is_computed_again(tiny_backbone: Backbone) -> None:
    text = tiny_backbone.text
    classes, ctx = text.class_tokens(NAMES), torch.empty(1, 0, 64)

    def encoded(seed: Any, chunk: Any) -> tuple[Tensor, list[Tensor]]:
        deltas = dropping(text.tower.blocks, seed)
        out = text.encode(TextPrompts(ctx, words="a photo of a", deltas=deltas), classes, chunk=chunk)
        return out, list(torch.autograd.grad((out**2).sum(), deltas.tensors()))

    kept, grads = encoded(torch.tensor(5), "auto")
    again, grads_again = encoded(5, len(NAMES))  # one chunk as before, its activations thrown away
    assert torch.equal(kept, again)
    for a, b in zip(grads, grads_again, strict=True):
        close(a, b)
    other, _ = encoded(6, "auto")
    without, _ = encoded(None, "auto")
    assert not torch.allclose(kept, other, rtol=1e-3) and not torch.allclose(kept, without, rtol=1e-3)
    # Two chunks drop on their own, but are the same whenever they are computed.
    assert torch.equal(encoded(5, 2)[0], encoded(5, 2)[0])


def test_dropout_hides_entries_from_the_low_rank_path_alone(tiny_backbone: Backbone) -> None:
    """Of `o` in the first block, by the identity: entries are kept at the rate asked for, scaled by 1/(1-p)."""
    block = tiny_backbone.vision.tower.blocks[0]
    x = torch.ones(4, 200, 96)
    low = LowRank(torch.eye(96), torch.eye(96), scale=2.0, dropout=0.25)
    plain = block._out(x)
    extra = (block.adapted(BlockDeltas({"o": low}, seed=1))._out(x) - plain) / 2
    kept = extra > 0.5
    close(extra[kept], torch.full_like(extra[kept], 1 / 0.75), 1e-4)
    assert extra[~kept].abs().max() < 1e-4
    assert abs(kept.float().mean() - 0.75) < 0.01
    several = BlockDeltas({part: LowRank(torch.eye(96), torch.eye(96), dropout=0.5) for part in "qkv"}, seed=1)
    masks = (block.adapted(several)._project(x, slice(0, 3)) - block._project(x, slice(0, 3))).flatten(-2) > 1
    q, k, v = masks.unbind(-2)
    assert all(abs((a & b).float().mean() - 0.25) < 0.02 for a, b in ((q, k), (q, v), (k, v)))  # drawn separately


def test_an_image_pass_drops_by_its_seed(tiny_backbone: Backbone) -> None:
    vision = tiny_backbone.vision
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def encoded(seed: int | None) -> Tensor:
        prompts = VisualPrompts(deltas=dropping(vision.tower.blocks, seed))
        with torch.no_grad():
            return vision.encode(images, ImageNeeds(), prompts).global_Bd

    assert torch.equal(encoded(1), encoded(1))
    assert not torch.allclose(encoded(1), encoded(2), rtol=1e-3)
    assert not torch.allclose(encoded(1), encoded(None), rtol=1e-3)


# -- refusals ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("deltas", "message"),
    [
        ({3: {"q": Bias(torch.zeros(96))}}, "deltas name block 3; the tower has blocks 0 to 2"),
        ({0: {"w": Bias(torch.zeros(96))}}, "deltas name part 'w' of block 0, which is not there"),
        ({1: {"q": Bias(torch.zeros(64))}}, r"bias of the delta of part 'q' of block 1 has shape \(64,\); \(96,\)"),
        ({1: {"o": LowRank(torch.zeros(2, 96), torch.zeros(96, 3))}}, r"B of the delta .* \(96, 3\); \(96, 2\) is"),
        ({0: {"ln_1": Bias(torch.zeros(96))}}, "part 'ln_1' of block 0 is a Bias, but it is a norm, which takes Norm"),
        ({0: {"adapter_mlp": Norm()}}, "is a Norm, but it is beside a branch"),
    ],
)
def test_a_delta_that_does_not_fit_is_named(tiny_backbone: Backbone, deltas: Any, message: str) -> None:
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(InputError, match=message):
        tiny_backbone.vision.encode(images, ImageNeeds(), VisualPrompts(deltas=TowerDeltas(deltas)))


@pytest.mark.parametrize("kind", MAPS)
def test_a_tower_of_maps_takes_no_deltas(kind: str) -> None:
    assert kind in KINDS and not engine(kind).takes_deltas
    deltas = TowerDeltas({0: {"q": Bias(torch.zeros(48))}})
    with pytest.raises(CapabilityError, match="deltas of an image tower need a ViT"):
        engine(kind).encode(pictures(tower(kind)), ImageNeeds(), VisualPrompts(deltas=deltas))


def test_deltas_in_reduced_precision(tiny_backbone: Backbone, tiny_model: Any, tokenizer: Any) -> None:
    """Towers in bf16 beside deltas in fp32: the same to bf16's three digits, with gradients in fp32."""
    reduced = Backbone.from_model(tiny_model, tokenizer, precision="bf16")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    image = of_tower(tiny_backbone.vision.tower.blocks)
    text = of_tower(tiny_backbone.text.tower.blocks)
    prompts = TextPrompts(torch.empty(1, 0, 64), words="a photo of a", deltas=text)
    for backbone, tolerance in ((tiny_backbone, 1e-6), (reduced, 0.05)):
        image_Bd = backbone.encode_image(images, ImageNeeds(grad=True), prompts=VisualPrompts(deltas=image)).global_Bd
        text_Kd = backbone.text.encode(prompts, backbone.text.class_tokens(NAMES), chunk=2)[0]
        if backbone is tiny_backbone:
            expected = image_Bd.detach(), text_Kd.detach()
        close(image_Bd.detach().float(), expected[0], tolerance)
        close(text_Kd.detach().float(), expected[1], tolerance)
    grads = torch.autograd.grad(image_Bd.float().sum() + text_Kd.float().sum(), [*image.tensors(), *text.tensors()])
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)
