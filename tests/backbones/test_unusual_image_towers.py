"""Image towers of the kinds that are served, in configurations that no published model has, against their own module.

Odd widths, one layer, patches of 7 and 14 and oblong ones, rectangles, registers, no class token, other pools and
heads: values, local features and gradients of visual prompts. What is of another kind is refused when it is built.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import open_clip
import pytest
import torch
from open_clip import timm_model
from torch import Tensor

from tests.backbones.image_towers import JOINT, pictures, stirred
from tests.backbones.test_image_kinds import own, with_prompts
from tests.backbones.test_text import close
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.errors import CapabilityError

VIT = {"image_size": 32, "layers": 2, "width": 48, "patch_size": 8, "head_width": 24}
POOL = {"attentional_pool": True, "attn_pooler_heads": 3}
OPEN_CLIP: dict[str, dict[str, Any]] = {
    "one layer": VIT | {"layers": 1},
    "odd width": VIT | {"width": 60, "head_width": 20, "mlp_ratio": 2.5},
    "rectangle, patches of 7": VIT | {"image_size": (28, 42), "patch_size": 7},
    "oblong patches of 14 x 7": VIT | {"image_size": (28, 28), "patch_size": (14, 7)},
    "fixed positions, scaled layers": VIT | {"pos_embed_type": "sin_cos_2d", "ls_init_value": 0.1, "no_ln_pre": True},
    "mean of patches": VIT | {"pool_type": "avg"},
    "one query": VIT | POOL | {"attn_pooler_queries": 1},
    "mean of queries": VIT | POOL | {"attn_pooler_queries": 4, "pool_type": "avg"},
}
SMALL = {"embed_dim": 48, "num_heads": 2, "depth": 2}
THREE_HEADS = {"embed_dim": 96, "num_heads": 3, "depth": 2}
REGISTERS = SMALL | {"reg_tokens": 3}
APART = REGISTERS | {"no_embed_class": True}
# Trunk of timm, open_clip's pool and projection, side or sides of the image, changes of the trunk.
TIMM: dict[str, tuple[str, str, str | None, int | tuple[int, int], dict[str, Any]]] = {
    "SigLIP, one layer, rectangle": ("vit_base_patch16_siglip_224", "map", "none", (48, 80), SMALL | {"depth": 1}),
    "SigLIP, patches of 14, MLP": ("vit_so400m_patch14_siglip_224", "map", "mlp", 56, SMALL),
    "SigLIP, registers left out": (
        "vit_base_patch16_siglip_224",
        "map",
        "none",
        64,
        REGISTERS | {"pool_include_prefix": False},
    ),
    "SigLIP, registers read": ("vit_base_patch16_siglip_224", "map", "none", 64, REGISTERS | {"qk_norm": True}),
    "ViT, class token and registers": ("vit_base_patch16_clip_quickgelu_224", "token", None, 64, REGISTERS),
    "ViT, no class token": (
        "vit_base_patch16_224",
        "avg",
        "linear",
        64,
        SMALL | {"class_token": False, "global_pool": "avg", "fc_norm": True},
    ),
    "ViT, patches alone have positions": (
        "vit_base_patch16_224",
        "token",
        "mlp",
        64,
        REGISTERS | {"no_embed_class": True},
    ),
    "EVA, mean, no class token": ("eva02_base_patch16_clip_224", "avg", None, (48, 80), SMALL | {"class_token": False}),
    "EVA, registers, patches of 14": ("eva02_large_patch14_clip_224", "token", None, 56, SMALL | {"num_reg_tokens": 3}),
    "EVA, rotations by layer": ("vit_base_patch16_rope_mixed_ape_224", "token", "linear", 64, SMALL),
    "PE-Core, registers": ("vit_pe_core_tiny_patch16_384", "map", None, (48, 80), SMALL | {"num_reg_tokens": 2}),
    "PE-Core, three heads": (
        "vit_pe_core_tiny_patch16_384",
        "map",
        None,
        64,
        THREE_HEADS,
    ),
    "relative, one bias for all layers": ("vit_srelpos_medium_patch16_224", "avg", "linear", (48, 80), SMALL),
    "relative, class token and mean": ("vit_relpos_base_patch16_clsgap_224", "avg", "linear", 64, SMALL),
}
MAPS: dict[str, tuple[str, str, str | None, int | tuple[int, int], dict[str, Any]]] = {
    "ConvNeXt, attention pool": ("convnext_atto", "abs_attn", "linear", 64, {"depths": (1, 1, 1, 1)}),
    "ResNet of timm": ("resnet18", "avg", "mlp", (64, 96), {"layers": (1, 1, 1, 1)}),
    "SAM's ViT": ("samvit_base_patch16", "", "linear", 64, SMALL),
    "ViTamin, rectangle": ("vitamin_small_224", "", "linear", (64, 96), {"depth": 1}),
}
REFUSED: dict[str, tuple[tuple[str, str, str | None, int | None, dict[str, Any]], str]] = {
    "distilled": (("deit_tiny_distilled_patch16_224", "token", "linear", 64, SMALL), "is read in another way"),
    "parallel": (
        ("vit_base_patch16_xp_224", "token", "linear", 64, SMALL | {"class_token": True}),
        "has a ParallelScalingBlock",
    ),
    "norms behind": (("vit_relpos_medium_patch16_rpn_224", "avg", "linear", 64, SMALL), "has a ResPostRelPosBlock"),
    "both pools": (("vit_base_patch16_224", "avgmax", "linear", 64, SMALL), "is pooled by 'avgmax'"),
    "a sequence": (
        ("mixer_s32_224", "avg", "linear", None, {}),
        "MlpMixer, whose last tokens are in no rows and columns",
    ),
    "tokens of its own": (("xcit_nano_12_p16_224", "token", "linear", 64, {"depth": 1}), "a kind that is not known"),
}


def timm_tower(
    name: str, pool: str, projection: str | None, sides: int | tuple[int, int] | None, trunk: dict[str, Any]
) -> Any:
    """open_clip's wrapper around a trunk; without sides, of the trunk's own."""
    create = partial(timm_model.timm.create_model)
    sized = {"img_size": sides} if sides is not None and not name.startswith(("convnext", "resnet")) else {}

    def create_small(name: str, **settings: Any) -> Any:
        return create(name, **settings | trunk | sized)

    with torch.random.fork_rng(devices=[]), mock.patch.object(timm_model.timm, "create_model", create_small):
        torch.manual_seed(0)
        return stirred(timm_model.TimmModel(name, JOINT, image_size=sides or 224, pool=pool, proj=projection))


def tower(name: str) -> Any:
    if name not in OPEN_CLIP:
        return timm_tower(*(TIMM | MAPS)[name])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return stirred(open_clip.model._build_vision_tower(JOINT, OPEN_CLIP[name]))


@pytest.mark.parametrize("name", [*OPEN_CLIP, *TIMM, *MAPS])
def test_features_are_the_modules_own(name: str) -> None:
    module = tower(name)
    images, engine = pictures(module), vision_engine(module, JOINT, nullcontext, name)
    reference = own(module, images)
    for local in ("value_block", "value_only", "tokens"):
        found = engine.encode(images, ImageNeeds(local=local), VisualPrompts())
        close(found.global_Bd, reference)
        assert found.local_BNc is not None
        assert found.local_BNc.shape == (2, engine.grid[0] * engine.grid[1], JOINT)
        assert found.local_BNc.isfinite().all()


def test_pools_of_maps_are_told_apart() -> None:
    kinds = {name: vision_engine(tower(name), JOINT, nullcontext, name).kind for name in MAPS}
    assert kinds["ConvNeXt, attention pool"] == "timm ConvNeXt, attention pool over the last map"
    assert kinds["ResNet of timm"] == "timm ResNet, mean of the last map"


@pytest.mark.parametrize("name", [*OPEN_CLIP, *TIMM])
def test_prompts_in_every_layer_and_their_gradients(name: str) -> None:
    """Against hooks on the module's own blocks, see `with_prompts`."""
    module = tower(name)
    images, engine = pictures(module), vision_engine(module, JOINT, nullcontext, name)
    generator = torch.Generator().manual_seed(2)
    prompts = {i: torch.randn(3, engine.width, generator=generator).requires_grad_() for i in range(engine.layers)}
    ours = engine.encode(images, ImageNeeds(grad=True), VisualPrompts(prompts, after_ln_pre=True)).global_Bd
    plain = with_prompts(module, images, prompts)
    close(ours, plain)
    weights = torch.randn(ours.shape, generator=generator)

    def gradients(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((out * weights).sum(), list(prompts.values()))

    for a, b in zip(gradients(ours), gradients(plain), strict=True):
        close(a, b)


@pytest.mark.parametrize("name", REFUSED)
def test_another_kind_is_refused_when_it_is_built(name: str) -> None:
    arguments, message = REFUSED[name]
    with pytest.raises(CapabilityError, match=message):
        vision_engine(timm_tower(*arguments), JOINT, nullcontext, name)
