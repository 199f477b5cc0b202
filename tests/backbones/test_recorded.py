"""Blocks of frozen image towers where gradients are recorded: by oneDNN and without what nobody reads, against plain
ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.backbones.image_towers import JOINT, image_tower, pictures
from tests.backbones.reference import image_features
from tests.backbones.test_text import close
from tests.backbones.test_unrecorded import ACTIVATIONS, STEPS, TOKENS, WIDTH, module, tokens
from vlmprompt.backbones import recorded, unrecorded
from vlmprompt.backbones.openclip.blocks import ResidualBlock
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.openclip.image_blocks import FrozenBlock, ImageResidualBlock
from vlmprompt.backbones.precision import autocast
from vlmprompt.backbones.recorded import recorded_linear
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.backbones.unrecorded import plain_linear, plainly

pytestmark = pytest.mark.skipif(not unrecorded._has_onednn(), reason="this torch has no oneDNN")


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small inputs are taken for large ones; the rows of each of oneDNN's products."""
    monkeypatch.setattr(unrecorded, "LEAST", 1)
    seen: list[int] = []
    plain = recorded._Linear.apply

    def counted(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x.shape[:-1].numel())
        return plain(x, *rest)

    monkeypatch.setattr(recorded._Linear, "apply", counted)
    return seen


def learned(*size: int, seed: int = 2) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out.dtype)
    return out, *torch.autograd.grad((out * weights).sum(), inputs)


@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "silu"])
def test_a_linear_map_is_the_plain_one(activation: Any, products: list[int]) -> None:
    """Also of rows that are not side by side, and to the second derivative."""
    weight, bias = learned(64, 48).detach(), learned(64).detach()

    def twice(linear: Any, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        y = linear(x[:, 1:4], *rest, activation=activation)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return y, first, *torch.autograd.grad(first.square().sum(), x)

    for rest in ((weight,), (weight, bias)):
        x = learned(4, 5, 48)
        found = twice(recorded_linear, x, *rest)
        exact = twice(plain_linear, x.detach().double().requires_grad_(), *(tensor.double() for tensor in rest))
        for ours, plain, wide in zip(found, twice(plain_linear, x, *rest), exact, strict=True):
            close(ours, plain, 2e-6)
            close(ours.double(), wide, 5e-6)
    assert set(products) == {12}


def test_a_gradient_that_is_one_number(products: list[int]) -> None:
    x, weight = learned(3, 48), learned(64, 48).detach()
    (ours,) = torch.autograd.grad(recorded_linear(x, weight).sum(), x)
    close(ours, weight.sum(0).expand(3, -1), 1e-6)
    assert products == [3, 3]


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_a_map_that_learns_is_plain(which: str, products: list[int]) -> None:
    given = {"weight": learned(64, 48).detach(), "bias": learned(64).detach()}
    given[which].requires_grad_()
    (grad,) = torch.autograd.grad(recorded_linear(learned(3, 48), **given).sum(), given[which])
    assert grad.abs().sum() > 0 and not products


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("step", STEPS)
def test_gradients_of_a_block(step: str, activation: str, products: list[int]) -> None:
    block, x = module(ACTIVATIONS[activation]), tokens().requires_grad_()
    found = gradients(STEPS[step](FrozenBlock(block), x), x)
    assert len(products) >= 2
    plain = gradients(STEPS[step](ResidualBlock(block), x), x)
    wide = tokens(dtype=torch.float64).requires_grad_()
    exact = gradients(STEPS[step](ResidualBlock(copy.deepcopy(block).double()), wide), wide)
    for ours, theirs, exactly in zip(found, plain, exact, strict=True):
        close(ours, theirs, 2e-6)
        close(ours.double(), exactly, 2e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_are_read_without_keys_and_values(dtype: torch.dtype, bias: bool) -> None:
    """The first of all tokens, or two of them."""
    block = module().to(dtype)
    if not bias:
        block.attn.in_proj_bias = None
    for n in (1, 2):
        x = tokens(dtype=dtype).requires_grad_()
        found = gradients(ImageResidualBlock(block).head_of_few(x, n), x)
        for ours, plain in zip(found, gradients(ResidualBlock(block).head(x, n), x), strict=True):
            close(ours, plain, 2e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("n", [1, 4, 5])
@pytest.mark.parametrize("grad", [True, False])
def test_how_many_are_few(n: int, grad: bool, products: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 48 numbers and 3 heads, 4 tokens; the same with gradients and without."""
    asked: list[int] = []
    monkeypatch.setattr(ImageResidualBlock, "head_of_few", lambda _, x, n: asked.append(n) or x[:, :n])
    with torch.set_grad_enabled(grad):
        FrozenBlock(module()).head(tokens(), n)
        with plainly():
            FrozenBlock(module()).head(tokens(), n)
    assert asked == ([n] if n <= 4 else [])


@pytest.mark.parametrize("of_tokens", [True, False])
@pytest.mark.parametrize("kind", [ImageResidualBlock, FrozenBlock])
def test_tokens_beside_prompts_are_the_heads_of_all(kind: Any, of_tokens: bool, products: list[int]) -> None:
    """Where tokens are constants, as in the first layer, only prompts get a gradient."""
    block, prompts_Lc = module(), learned(3, WIDTH, seed=4)
    x = tokens().requires_grad_(of_tokens)
    inputs = [prompts_Lc, *[x] * of_tokens]
    found = gradients(kind(block).beside(x, prompts_Lc), *inputs)
    joined = torch.cat([x, prompts_Lc.expand(len(x), -1, -1)], dim=1)
    plain = gradients(ResidualBlock(block).head(joined, TOKENS), *inputs)
    for ours, theirs in zip(found, plain, strict=True):
        close(ours, theirs, 2e-6)
    assert bool(products) == (kind is FrozenBlock)


def test_tokens_beside_prompts_without_gradients(products: list[int]) -> None:
    block, prompts_Lc = module(), learned(3, WIDTH, seed=4)
    with torch.no_grad():
        found = FrozenBlock(block).beside(tokens(), prompts_Lc)
        close(found, ImageResidualBlock(block).beside(tokens(), prompts_Lc), 1e-6)
    assert not products


def test_constant_tokens_are_no_part_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their projection has no backward pass: the only products there are those behind the attention."""
    monkeypatch.setattr(unrecorded, "LEAST", 1)
    rows: list[int] = []
    backward = recorded._Linear.backward

    def counted(ctx: Any, *grads: Tensor) -> Any:
        rows.append(grads[0].shape[:-1].numel())
        return backward(ctx, *grads)

    monkeypatch.setattr(recorded._Linear, "backward", staticmethod(counted))
    x, prompts_Lc = tokens(), learned(3, WIDTH, seed=4)
    FrozenBlock(module()).beside(x, prompts_Lc).sum().backward()
    n_tokens = x.shape[:-1].numel()
    assert sorted(rows) == [3, n_tokens, n_tokens, n_tokens]  # keys and values of prompts; output, fc, proj


@pytest.mark.parametrize("layers", [(0,), (0, 1), (0, 1, 2), (1, 2)])
@pytest.mark.parametrize("options", [{}, {"after_ln_pre": True}, {"drop_after": True}], ids=str)
def test_prompts_of_a_tower(layers, options, products, tiny_model, tiny_backbone) -> None:
    """Values and gradients, against the plain loop."""
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = {layer: learned(2, 96, seed=layer) for layer in layers}
    given, inputs = VisualPrompts(prompts, **options), list(prompts.values())
    found = gradients(tiny_backbone.encode_image(images, ImageNeeds(grad=True), prompts=given).global_Bd, *inputs)
    plain = gradients(image_features(tiny_model, images, prompts, **options), *inputs)
    for ours, theirs in zip(found, plain, strict=True):
        close(ours, theirs)
    assert products


@pytest.mark.parametrize(
    ("layers", "needs"),
    [((), ImageNeeds()), ((0, 1), ImageNeeds()), ((0, 1), ImageNeeds(prompt_outputs=True))],
    ids=["plain", "prompts", "outputs of prompts"],
)
def test_a_class_map_sees_the_attention(layers, needs, products) -> None:
    """The last block's is computed although a few tokens could be read without it."""
    tower = image_tower("vit")
    engine: Any = vision_engine(tower, JOINT, autocast(torch.device("cpu"), "fp32"), "vit")
    prompts = VisualPrompts({layer: learned(2, 48, seed=layer) for layer in layers})

    def seen() -> Tensor:
        found: Tensor = engine.class_map(pictures(tower), needs, prompts, lambda f: F.relu(f.global_Bd).sum(-1))
        return found

    found = seen()
    with plainly():
        close(found, seen())


def test_a_block_of_another_kind_needs_no_more_than_a_head(tiny_backbone, monkeypatch) -> None:
    """One that does not know prompts that nobody reads."""
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = [learned(2, 96, seed=layer) for layer in range(3)]

    class Known:
        def __init__(self, block: Any) -> None:
            self.run, self.head = block.run, block.head

    def encoded() -> tuple[Tensor, ...]:
        given = VisualPrompts(dict(enumerate(prompts)))
        return gradients(tiny_backbone.encode_image(images, ImageNeeds(grad=True), prompts=given).global_Bd, *prompts)

    expected, tower = encoded(), tiny_backbone.vision.tower
    monkeypatch.setattr(tower, "blocks", [Known(block) for block in tower.blocks])
    for ours, theirs in zip(encoded(), expected, strict=True):
        close(ours, theirs)
