"""Which places speak for a class: the engines against autograd through every tower's own module.

Shapes: B images, T tokens, H heads, N patches, c width, d joint width.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.backbones.image_towers import JOINT, KINDS, pictures
from tests.backbones.test_image_kinds import MAPS, blocks_of, engine, own, tower, with_prompts
from tests.backbones.test_text import close
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, VisualPrompts
from vlmprompt.errors import CapabilityError

NONE = VisualPrompts()
AT_A_TOKEN = ("vit", "eva01", "eva02", "eva02_post_norm", "mobileclip_b", "mobileclip_l", "relpos")


def towards(features_Bd: Tensor) -> Tensor:
    """A cosine with some direction, as a class has one: (B,)."""
    direction_d = torch.randn(JOINT, generator=torch.Generator().manual_seed(5))
    return 10 * F.normalize(features_Bd, dim=-1) @ direction_d


def watched(module: Any, kept: list[Tensor]) -> Any:
    """A copy of a tower whose last block keeps its attention: that which the values are multiplied by."""
    module = copy.deepcopy(module)
    attn = blocks_of(module)[-1].attn
    if isinstance(attn, nn.MultiheadAttention):
        everything = {"need_weights": True, "average_attn_weights": False}
        attn.register_forward_pre_hook(lambda _, args, kwargs: (args, {**kwargs, **everything}), with_kwargs=True)
        attn.register_forward_hook(lambda _, args, out: kept.append(out[1]._base))  # (B*H,T,T), before it is shaped
    else:
        attn.fused_attn = False
        attn.attn_drop.register_forward_hook(lambda _, args, out: kept.append(out))
    return module


@pytest.mark.parametrize("kind", AT_A_TOKEN)
@pytest.mark.parametrize("n_prompts", [0, 3])
def test_attention_of_the_last_block_is_weighted_by_its_gradient(kind: str, n_prompts: int) -> None:
    images, vision, kept = pictures(tower(kind)), engine(kind), []
    module = watched(tower(kind), kept)
    g = torch.Generator().manual_seed(2)
    prompts = {i: torch.randn(n_prompts, vision.width, generator=g) for i in range(2)} if n_prompts else {}
    asked = images.clone().requires_grad_()
    features_Bd = with_prompts(module, asked, prompts) if prompts else own(module, asked)
    (attention,) = kept
    (grad,) = torch.autograd.grad(towards(features_Bd).sum(), attention)
    special, n = vision.tower.n_special, vision.n_local
    first = special + (0 if kind == "relpos" else n_prompts)  # where `with_prompts` puts the patches
    expected_BN = torch.zeros(2, n)
    heads_BHTT, grads_BHTT = (t.reshape(2, -1, *attention.shape[-2:]) for t in (attention.detach(), grad))
    for b in range(2):
        for heads_TT, grads_TT in zip(heads_BHTT[b], grads_BHTT[b], strict=True):
            row_N = (heads_TT * grads_TT)[0, first : first + n]
            expected_BN[b] += row_N.clamp(min=0) / len(heads_BHTT[b])
    given = VisualPrompts(prompts, after_ln_pre=True)
    found_BN = vision.class_map(images, ImageNeeds(), given, lambda f: towards(f.global_Bd))
    close(found_BN, expected_BN)
    assert (found_BN > 0).any(dim=1).all() and not found_BN.requires_grad


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in AT_A_TOKEN])
def test_elsewhere_it_is_grad_cam_of_the_last_map(kind: str) -> None:
    images, vision, kept = pictures(tower(kind)), engine(kind), []
    module = copy.deepcopy(tower(kind))
    if kind == "resnet":
        module.layer4.register_forward_hook(lambda _, args, out: kept.append(out))
    elif kind in MAPS:
        features = module.trunk.forward_features
        module.trunk.forward_features = lambda x, **more: kept.append(features(x, **more)) or kept[0]
    else:
        blocks_of(module)[-1].register_forward_hook(lambda _, args, out: kept.append(out))
    features_Bd = own(module, images.clone().requires_grad_())
    (map_,) = kept
    (grad,) = torch.autograd.grad(towards(features_Bd).sum(), map_)
    if map_.dim() == 4:
        map_, grad = (t if kind == "swin" else t.permute(0, 2, 3, 1) for t in (map_, grad))
    map_BNc, grad_BNc = (t.reshape(2, -1, t.shape[-1])[:, -vision.n_local :] for t in (map_, grad))
    expected_BN = torch.einsum("bnc,bc->bn", map_BNc, grad_BNc.sum(dim=1) / vision.n_local).clamp(min=0)
    found_BN = vision.class_map(images, ImageNeeds(), NONE, lambda f: towards(f.global_Bd))
    close(found_BN, expected_BN)
    assert found_BN.shape == (2, vision.n_local) and not found_BN.requires_grad


@pytest.mark.parametrize("kind", ["vit", "siglip", "resnet", "eva02"])
@pytest.mark.parametrize("local", [None, "value_block", "tokens"])
def test_the_target_reads_what_the_engine_gives_otherwise(kind: str, local: Any) -> None:
    images, vision, needs = pictures(tower(kind)), engine(kind), ImageNeeds(local=local)
    seen: list[ImageFeatures] = []

    def target(features: ImageFeatures) -> Tensor:
        seen.append(features)
        return towards(features.global_Bd)

    vision.class_map(images, needs, NONE, target)
    plain = vision.encode(images, needs, NONE)
    close(seen[0].global_Bd.detach(), plain.global_Bd)
    assert (seen[0].local_BNc is None) is (local is None)
    if local is not None:
        close(seen[0].local_BNc.detach(), plain.local_BNc)  # type: ignore[union-attr]


def test_local_features_of_the_value_path_alone_lead_to_no_attention() -> None:
    images, needs = pictures(tower("vit")), ImageNeeds(local="value_block")

    def local_only(features: ImageFeatures) -> Tensor:
        assert features.local_BNc is not None
        return features.local_BNc.sum(dim=(1, 2))

    with pytest.raises(CapabilityError, match="do not depend on what the ViT, class token pools"):
        engine("vit").class_map(images, needs, NONE, local_only)
    assert engine("resnet").class_map(pictures(tower("resnet")), needs, NONE, local_only).shape == (2, 4)


def test_half_precision_sees_about_the_same() -> None:
    module = tower("vit")
    half = vision_engine(module, JOINT, lambda: torch.autocast("cpu", dtype=torch.bfloat16), "half")
    maps = [
        one.class_map(pictures(module), ImageNeeds(), NONE, lambda f: towards(f.global_Bd.float()))
        for one in (engine("vit"), half)
    ]
    assert F.cosine_similarity(*(m.flatten().float() for m in maps), dim=0) > 0.99


def test_a_tower_without_places_or_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vision = vision_engine(tower("vit"), JOINT, nullcontext, "vit")
    images = pictures(tower("vit"))
    last = vision.tower.blocks[-1]  # type: ignore[attr-defined]
    monkeypatch.setattr(last, "head", lambda x_BTc, n: x_BTc[:, :n])
    with pytest.raises(CapabilityError, match="code of its own"):
        vision.class_map(images, ImageNeeds(), NONE, lambda f: towards(f.global_Bd))
    vision.n_local = 0
    with pytest.raises(CapabilityError, match="no places"):
        vision.class_map(images, ImageNeeds(), NONE, lambda f: towards(f.global_Bd))
