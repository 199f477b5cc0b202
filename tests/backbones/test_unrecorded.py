"""Blocks of frozen image towers where no gradient is recorded: in slices, by oneDNN, against plain ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from tests.backbones.image_towers import JOINT, image_tower, pictures
from tests.backbones.test_text import close
from vlmprompt.backbones import unrecorded
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.openclip.blocks import ResidualBlock
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.openclip.image_blocks import FrozenBlock
from vlmprompt.backbones.precision import autocast
from vlmprompt.backbones.text import budget
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.backbones.unrecorded import PackedLinear, plain_linear, plainly
from vlmprompt.errors import UsageError
from vlmprompt.training import dry_run

pytestmark = pytest.mark.skipif(not unrecorded._has_onednn(), reason="this torch has no oneDNN")

WIDTH, TOKENS, IMAGES = 48, 5, 7
SLICE = 3  # images: 7 are slices of 3, 2 and 2
STEPS = {
    "run": lambda block, x: block.run(x),
    "head": lambda block, x: block.head(x, 2),
    "alone": lambda block, x: block.alone(x),
    "value_path": lambda block, x: block.value_path(x),
    "attention": lambda block, x: block.attention(x),
    "value_attention": lambda block, x: block.value_attention(x),
}
ACTIVATIONS = {"gelu": nn.GELU, "tanh": lambda: nn.GELU("tanh"), "quick": QuickGELU, "another": nn.SiLU}


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small batches are taken for large ones; how many images each of oneDNN's linear maps read."""
    monkeypatch.setattr(unrecorded, "LEAST", 1)
    seen: list[int] = []

    class Counted(PackedLinear):
        def __call__(self, x: Tensor, *rest: Any) -> Tensor:
            seen.append(len(x))
            return super().__call__(x, *rest)

    monkeypatch.setattr(unrecorded, "PackedLinear", Counted)
    return seen


def slices_of(monkeypatch: pytest.MonkeyPatch, images: int, tokens: int, mlp: int) -> None:
    monkeypatch.setattr(unrecorded, "SLICE_BYTES", 4 * images * tokens * mlp)


def module(activation: Any = nn.GELU) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = ResidualAttentionBlock(WIDTH, 3, ls_init_value=0.7, act_layer=activation).eval().requires_grad_(False)
        for parameter in block.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
        return block


def tokens(images: int = IMAGES, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(images, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "silu"])
def test_a_linear_map_is_the_plain_one(activation: Any, often: bool) -> None:
    """Also without a bias, and of rows of a weight whose other rows were read before."""
    g = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*size, generator=g) for size in ((4, 5, 48), (64, 48), (64,)))
    linear = PackedLinear(often)
    for rows in (slice(0, 64), slice(0, 32), slice(32, 64)):
        for b in (None, bias[rows]):
            close(linear(x, weight[rows], b, activation), plain_linear(x, weight[rows], b, activation), 1e-6)
    exact = plain_linear(x.double(), weight.double(), bias.double(), activation)
    close(linear(x, weight, bias, activation).double(), exact, 1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("step", STEPS)
def test_slices_of_a_block_are_the_plain_block(step, activation, packed, monkeypatch) -> None:
    slices_of(monkeypatch, SLICE, TOKENS, 4 * WIDTH)
    block, x = module(ACTIVATIONS[activation]), tokens()
    with torch.no_grad():
        found = STEPS[step](FrozenBlock(block), x)
        assert packed[:1] == [3] and set(packed) == {2, 3}
        close(found, STEPS[step](ResidualBlock(block), x), 1e-6)
        close(found.double(), STEPS[step](ResidualBlock(copy.deepcopy(block).double()), x.double()), 2e-6)


def test_a_block_is_open_clips(packed) -> None:
    with torch.no_grad():
        close(FrozenBlock(module()).run(tokens()), module()(tokens()), 1e-6)
    assert set(packed) == {IMAGES}


def test_weights_that_change_are_read_anew(packed, monkeypatch) -> None:
    slices_of(monkeypatch, SLICE, TOKENS, 4 * WIDTH)
    block, x = module(), tokens()
    frozen = FrozenBlock(block)
    with torch.no_grad():
        before = frozen.run(x)
        block.mlp.c_fc.weight *= 1.5
        assert (frozen.run(x) - before).abs().max() > 0.1
        close(frozen.run(x), ResidualBlock(block).run(x), 1e-6)
    assert packed


def test_weights_that_are_computed_when_asked_for() -> None:
    """Such as parametrised ones: where nobody holds one, the next would get its address."""
    g = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*size, generator=g) for size in ((4, 5, 48), (64, 48)))
    linear = PackedLinear(often=True)
    for factor in (1.0, 2.0, 3.0):
        close(linear(x, weight * factor), plain_linear(x, weight) * factor, 1e-6)


@pytest.mark.parametrize("part", ["attn.out_proj", "mlp.c_fc", "mlp.c_proj"])
@pytest.mark.parametrize("kind", [ResidualBlock, FrozenBlock])
def test_linear_maps_of_another_kind_are_called(kind, part, packed) -> None:
    """One with a hook, and one of a class that adds something to its weight."""

    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    hooked, adapted, x = module(), module(), tokens()
    hooked.get_submodule(part).register_forward_hook(lambda *found: found[-1] + 1)
    adapted.get_submodule(part).__class__ = Adapted
    shifted = module()
    shifted.get_submodule(part).bias += 1
    with torch.no_grad():
        for block in (hooked, adapted):
            close(kind(block).run(x), kind(shifted).run(x), 1e-6)


@pytest.mark.parametrize("case", ["float64", "autocast", "small", "absent", "asked", "within"])
def test_elsewhere_a_block_runs_plainly(case, packed, monkeypatch) -> None:
    """To the bit."""
    dtype = torch.float64 if case == "float64" else torch.float32
    block, x = module().to(dtype), tokens(dtype=dtype)
    if case == "small":
        monkeypatch.setattr(unrecorded, "LEAST", x.numel() + 1)
    if case == "absent":
        monkeypatch.setattr(unrecorded, "_has_onednn", lambda: False)
    if case == "asked":
        monkeypatch.setenv(unrecorded.VARIABLE, "plain")
    reduced = autocast(x.device, "bf16" if case == "autocast" else "fp32")
    with torch.no_grad(), reduced():
        plain = ResidualBlock(block).run(x)
        if case == "within":
            with plainly():
                found = FrozenBlock(block).run(x)
        else:
            found = FrozenBlock(block).run(x)
    assert torch.equal(found, plain) and not packed
    if case == "within":
        with torch.no_grad():
            FrozenBlock(block).run(x)
        assert packed


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:FutureWarning")
def test_a_traced_graph_is_of_plain_operations(packed) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = module()
            self.frozen = FrozenBlock(self.block)

        def forward(self, x: Tensor) -> Tensor:
            return self.frozen.run(x)

    with torch.no_grad():
        graph = torch.export.export(Net(), (tokens(),)).graph
        traced = torch.jit.trace(Net(), tokens(), check_trace=False)  # type: ignore[no-untyped-call]
        close(traced(tokens()), ResidualBlock(module()).run(tokens()), 1e-6)
    assert not packed and not any("mkldnn" in str(node.target) for node in graph.nodes)


@pytest.mark.parametrize("kind", ["vit", "clipa", "vit_mean", "coca"])
def test_features_of_a_tower(kind, packed, monkeypatch) -> None:
    """Of all definitions, one at a time and in one pass; pooled ones are the module's own."""
    module = image_tower(kind)
    engine: Any = vision_engine(module, JOINT, autocast(torch.device("cpu"), "fp32"), kind)
    images = pictures(module, IMAGES)
    slices_of(monkeypatch, SLICE, 17, 4 * 48)
    needs = [ImageNeeds()]
    for local in ("value_block", "value_only", "tokens", "value_attention"):
        needs += [ImageNeeds(local=local, space=space) for space in ("joint", "pre_proj")]
    with torch.no_grad():
        own = module(images)
        together = engine.encode_each(images, needs)
        assert packed and max(packed) <= SLICE
        for one, found in zip(needs, together, strict=True):
            alone = engine.encode(images, one, VisualPrompts())
            with plainly():
                plain = engine.encode(images, one, VisualPrompts())
            assert alone.tensors().keys() == plain.tensors().keys()
            for name, tensor in alone.tensors().items():
                assert torch.equal(tensor, found.tensors()[name])
                close(tensor, plain.tensors()[name])
            close(alone.global_Bd, own[0] if isinstance(own, tuple) else own)


def test_what_a_dry_run_counts_is_all_of_it(packed) -> None:
    block, x = module(), tokens()

    def counted(kind: Any) -> int:
        return dry_run._flops(lambda: no_gradient(kind(block)))

    def no_gradient(block: Any) -> Tensor:
        with torch.no_grad():
            return block.run(x)

    linear = 2 * IMAGES * TOKENS * WIDTH * WIDTH * 12  # of q, k, v, out, and twice four times as wide
    assert counted(FrozenBlock) == counted(ResidualBlock) >= linear and not packed


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unrecorded.is_fast()
    for said, fast in (("plain", False), ("auto", True), ("", True)):
        monkeypatch.setenv(unrecorded.VARIABLE, said)
        assert unrecorded.is_fast() is fast
    monkeypatch.setenv(unrecorded.VARIABLE, "slow")
    with pytest.raises(UsageError, match="VLMPROMPT_IMAGE_TOWER is 'slow', which is neither auto nor plain"):
        unrecorded.is_fast()


@pytest.mark.parametrize("variable", [unrecorded.VARIABLE, budget.VARIABLE])
def test_a_variable_that_means_nothing_is_refused_before_towers_are_loaded(variable, monkeypatch) -> None:
    """Whatever is computed with them."""
    monkeypatch.setenv(variable, "slow")
    with pytest.raises(UsageError, match=f"{variable} is 'slow'"):
        load_backbone("doodle-clip")
