"""Every kind of image tower against its own module: pooled and local features, prompts, and what a block adds."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.backbones.image_towers import JOINT, KINDS, image_tower, pictures
from tests.backbones.test_text import close
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.errors import CapabilityError

MAPS = ("resnet", "vitamin", "convnext", "convnext_mlp", "fastvit", "swin")
TAKES_PROMPTS = [kind for kind in KINDS if kind not in MAPS]
NONE = VisualPrompts()


@cache
def tower(kind: str) -> Any:
    return image_tower(kind)


@cache
def engine(kind: str) -> Any:
    return vision_engine(tower(kind), JOINT, nullcontext, kind)


def own(module: Any, images: Tensor) -> Tensor:
    features = module(images)
    return features[0] if isinstance(features, tuple) else features


def blocks_of(module: Any) -> list[Any]:
    """The residual blocks of a tower, in order."""
    if hasattr(module, "transformer"):
        return list(module.transformer.resblocks)
    if not hasattr(module, "trunk"):
        return [block for i in range(1, 5) for block in getattr(module, f"layer{i}")]
    trunk = module.trunk
    if hasattr(trunk, "blocks"):
        return list(trunk.blocks)
    return [block for stage in getattr(trunk, "stages", None) or trunk.layers for block in stage.blocks]


def widen(rel_pos: Any, n: int) -> None:
    """Give n more tokens a bias of 0."""
    bias_HTT = rel_pos.get_bias()
    rel_pos.get_bias = lambda: F.pad(bias_HTT, (0, n, 0, n))


def with_prompts(
    module: Any, images: Tensor, prompts: dict[int, Tensor], outputs: list[Tensor] | None = None
) -> Tensor:
    """The module's own pass, prompts among its special tokens: to attention that is the same as behind the patches.

    Args:
        outputs: gets the last block's outputs of the prompts.
    """
    module = copy.deepcopy(module)
    blocks, n = blocks_of(module), len(prompts[0])
    trunk = getattr(module, "trunk", None)
    relative = hasattr(trunk, "shared_rel_pos")
    first = 1 if trunk is None else trunk.num_prefix_tokens
    if relative:  # a bias for each pair of places: the prompts come last, with none
        first += trunk.patch_embed.num_patches

    if relative and trunk.shared_rel_pos is not None:
        widen(trunk.shared_rel_pos, n)

    def put(layer: int, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = args
        kept = x[:, first + (n if layer else 0) :]
        return torch.cat([x[:, :first], prompts[layer].expand(len(x), -1, -1), kept], dim=1), *rest

    for i, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda _, args, i=i: put(i, args))
        if hasattr(block.attn, "num_prefix_tokens"):
            block.attn.num_prefix_tokens += n
        if relative and block.attn.rel_pos is not None:
            widen(block.attn.rel_pos, n)

    def take_out(_: Any, args: tuple[Any, ...], out: Tensor) -> Tensor:
        if outputs is not None:
            outputs.append(out[:, first : first + n])
        return torch.cat([out[:, :first], out[:, first + n :]], dim=1)

    blocks[-1].register_forward_hook(take_out)
    return own(module, images)


@pytest.mark.parametrize("local", [None, "value_block", "value_only", "tokens"])
@pytest.mark.parametrize("kind", KINDS)
def test_pooled_features_are_the_towers_own(kind, local):
    images = pictures(tower(kind))
    found = engine(kind).encode(images, ImageNeeds(local=local), NONE)
    close(found.global_Bd, own(tower(kind), images))
    if local is not None:
        assert found.local_BNc.shape == (2, engine(kind).n_local, JOINT)


@pytest.mark.parametrize("kind", KINDS)
def test_local_features_before_the_projection_lead_to_those_behind_it(kind):
    images, vision = pictures(tower(kind)), engine(kind)
    joint, raw = (
        vision.encode(images, ImageNeeds(local="tokens", space=s), NONE).local_BNc for s in ("joint", "pre_proj")
    )
    assert raw.shape[-1] == vision.local_width
    if vision.projection is None:
        close(raw, joint)
    else:
        close(raw @ vision.projection, joint)


@pytest.mark.parametrize("kind", TAKES_PROMPTS)
def test_prompts_are_more_tokens_that_no_pool_reads(kind):
    """Values and gradients of prompts in both layers, against hooks on the module's own blocks."""
    images, vision = pictures(tower(kind)), engine(kind)
    g = torch.Generator().manual_seed(2)
    prompts = {i: torch.randn(3, vision.width, generator=g).requires_grad_() for i in range(2)}
    ours = vision.encode(images, ImageNeeds(grad=True), VisualPrompts(prompts, after_ln_pre=True)).global_Bd
    plain = with_prompts(tower(kind), images, prompts)
    close(ours, plain)
    assert not torch.allclose(ours, own(tower(kind), images), rtol=1e-3)
    weights = torch.randn(ours.shape, generator=g)
    found, expected = (torch.autograd.grad((x * weights).sum(), list(prompts.values())) for x in (ours, plain))
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize("kind", MAPS)
def test_a_tower_of_maps_takes_no_prompts(kind):
    assert not engine(kind).has_prompts
    with pytest.raises(CapabilityError, match="visual prompts need"):
        engine(kind).encode(pictures(tower(kind)), ImageNeeds(), VisualPrompts({0: torch.zeros(1, 48)}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_local_feature_is_the_global_one_where_all_patches_are_equal(kind):
    t = engine(kind).tower
    g = torch.Generator().manual_seed(3)
    n = t.grid[0] * t.grid[1]
    if kind in MAPS:
        map_BNc = torch.randn(2, 1, t.map(pictures(tower(kind))).shape[-1], generator=g).expand(-1, n, -1)
        if kind == "resnet":  # its places have positions, which the value path leaves out
            return
        pooled_BC, local_BNC = t.read(map_BNc, "tokens")
    else:
        x_BTc = torch.randn(2, 1, t.width, generator=g).expand(-1, t.n_special + n, -1)
        pooled_BC, local_BNC = t.pool(x_BTc), t.local(x_BTc[:, t.n_special :], "tokens")
    close(local_BNC, pooled_BC[:, None].expand(-1, n, -1))


@pytest.mark.parametrize("kind", ["fastvit", "swin", "vit_mean", "gap", "clipa", "convnext", "vitamin"])
def test_the_mean_of_local_features_is_the_global_one_where_the_norm_stands_before_the_mean(kind):
    found = engine(kind).encode(pictures(tower(kind)), ImageNeeds(local="tokens"), NONE)
    behind = kind in ("clipa", "convnext", "vitamin")
    assert torch.allclose(found.local_BNc.mean(dim=1), found.global_Bd, rtol=1e-4, atol=1e-5) is not behind


def scale_of(block: Any, branch: int) -> Tensor | float:
    """The layer scale of a residual branch, 1 without."""
    scale = getattr(block, f"gamma_{branch}", getattr(getattr(block, f"ls{branch}", None), "gamma", None))
    return 1.0 if scale is None else scale


@pytest.mark.parametrize("kind", ["eva01", "eva02", "eva02_post_norm", "mobileclip_b", "mobileclip_l", "relpos"])
def test_the_value_path_is_that_of_the_weights(kind):
    """By hand, from the last block's weights: values, what stands behind attention, output projection."""
    block = tower(kind).trunk.blocks[-1]
    attn, x_BNc = block.attn, torch.randn(2, 5, engine(kind).width, generator=torch.Generator().manual_seed(4))
    read_BNc = x_BNc if kind == "eva02_post_norm" else block.norm1(x_BNc)
    if getattr(attn, "qkv", None) is None:
        value_BNc = attn.v_proj(read_BNc)
    else:
        width = x_BNc.shape[-1]
        value_BNc = read_BNc @ attn.qkv.weight[2 * width :].T
        if hasattr(attn, "v_bias"):
            value_BNc = value_BNc + attn.v_bias
        elif attn.qkv.bias is not None:
            value_BNc = value_BNc + attn.qkv.bias[2 * width :]
    path_BNc = attn.proj(attn.norm(value_BNc) if hasattr(attn, "norm") else value_BNc)
    if kind == "eva02_post_norm":
        path_BNc = block.norm1(path_BNc)
        alone_BNc = x_BNc + path_BNc
        alone_BNc = alone_BNc + block.norm2(block.mlp(alone_BNc))
    else:
        alone_BNc = x_BNc + path_BNc * scale_of(block, 1)
        alone_BNc = alone_BNc + block.mlp(block.norm2(alone_BNc)) * scale_of(block, 2)
    last = engine(kind).tower.blocks[-1]
    close(last.value_path(x_BNc), path_BNc)
    close(last.alone(x_BNc), alone_BNc)


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_counts(kind):
    """Without this, an engine that leaves a block out would pass for one that does not."""
    module = tower(kind)
    images = pictures(module)
    whole = own(module, images)
    for block in blocks_of(module):
        if kind in MAPS and block.__class__.__name__ == "Bottleneck":
            continue  # it changes the shape: there is nothing to leave out
        handle = block.register_forward_hook(lambda _, args, out: args[0] if args[0].shape == out.shape else None)
        moved = (own(module, images) - whole).norm() / whole.norm()
        handle.remove()
        assert moved > 1e-3
