"""What comes out of a tower where visual prompts went in, against hooks on the module's own blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones.image_towers import pictures
from tests.backbones.test_image_kinds import MAPS, TAKES_PROMPTS, engine, tower, with_prompts
from tests.backbones.test_text import close
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError

NEEDS = ImageNeeds(grad=True, prompt_outputs=True)


def before_projection(kind: str, x_BLc: Tensor) -> Tensor:
    """By the module's own layers; where a pool attends, what it makes of tokens that are all the same one."""
    module = tower(kind)
    trunk = getattr(module, "trunk", None)
    if getattr(trunk or module, "attn_pool", None) is None:
        if trunk is None:
            return module.ln_post(x_BLc)
        x_BLc = trunk.fc_norm(trunk.norm(x_BLc))
        return x_BLc if engine(kind).projection is not None else module.head(trunk.head(x_BLc))
    of_all = engine(kind).tower
    return torch.stack([of_all.pool(x_BLc[:, i : i + 1].expand(-1, 9, -1)) for i in range(x_BLc.shape[1])], dim=1)


@pytest.mark.parametrize("kind", TAKES_PROMPTS)
def test_outputs_of_prompts(kind: str) -> None:
    """Values and gradients; the other features stay what they are, whichever local ones are asked for."""
    images, vision, g = pictures(tower(kind)), engine(kind), torch.Generator().manual_seed(2)
    prompts = {i: torch.randn(3, vision.width, generator=g).requires_grad_() for i in range(2)}
    given, outputs = VisualPrompts(prompts, after_ln_pre=True), []
    ours = vision.encode(images, NEEDS, given)
    with_prompts(tower(kind), images, prompts, outputs)
    expected_BLC = before_projection(kind, outputs[0])
    close(ours.prompts_BLC, expected_BLC)
    assert ours.prompts_BLC.shape == (2, 3, vision.local_width)
    weights = torch.randn(expected_BLC.shape, generator=g)
    found, reference = (
        torch.autograd.grad((x * weights).sum(), list(prompts.values())) for x in (ours.prompts_BLC, expected_BLC)
    )
    for a, b in zip(found, reference, strict=True):
        close(a, b)
    local: Any
    for local in ("tokens", "value_block", None):
        plain = vision.encode(images, ImageNeeds(local=local), given)
        beside = vision.encode(images, ImageNeeds(local=local, prompt_outputs=True), given)
        close(beside.global_Bd, plain.global_Bd)
        close(beside.prompts_BLC, expected_BLC)
        assert plain.prompts_BLC is None and (beside.local_BNc is None) == (local is None)
        if local is not None:
            close(beside.local_BNc, plain.local_BNc)


def test_they_are_stored_and_cut_like_other_features() -> None:
    g = torch.Generator().manual_seed(3)
    parts = [
        ImageFeatures(torch.randn(n, 4, generator=g), prompts_BLC=torch.randn(n, 2, 6, generator=g)) for n in (1, 2)
    ]
    joined = ImageFeatures.cat(parts)
    assert set(joined.tensors()) == {"global", "prompts"}
    again = ImageFeatures.from_tensors(joined.tensors())
    assert again.prompts_BLC is not None and torch.equal(again.prompts_BLC[1:], parts[1].prompts_BLC)
    assert joined[1:].prompts_BLC.shape == (2, 2, 6)


def test_a_map_shows_what_the_prompts_have_read() -> None:
    """Of a target that their outputs alone decide, by the attention of the last block: by hand."""
    kind = "vit"
    images, vision, g = pictures(tower(kind)), engine(kind), torch.Generator().manual_seed(4)
    prompts = {1: torch.randn(2, vision.width, generator=g)}
    direction_C = torch.randn(vision.local_width, generator=g)
    found_BN = vision.class_map(
        images, NEEDS, VisualPrompts(prompts), lambda features: (features.prompts_BLC @ direction_C).sum(dim=1)
    )
    module = tower(kind)
    x_BTc = module._embeds(images)
    first, last = module.transformer.resblocks
    x_BTc = torch.cat([first(x_BTc), prompts[1].expand(2, -1, -1)], dim=1)
    normed, heads = last.ln_1(x_BTc), last.attn.num_heads
    qkv = torch.nn.functional.linear(normed, last.attn.in_proj_weight, last.attn.in_proj_bias)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    matrix_BHTT = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1).detach().requires_grad_()
    x_BTc = x_BTc + last.attn.out_proj((matrix_BHTT @ v).transpose(1, 2).flatten(2))
    x_BTc = x_BTc + last.mlp(last.ln_2(x_BTc))
    (module.ln_post(x_BTc[:, -2:]) @ direction_C).sum().backward()
    weighted_BHLN = (matrix_BHTT * matrix_BHTT.grad).relu()[:, :, -2:, 1:-2]
    close(found_BN, weighted_BHLN.mean(dim=1).sum(dim=1).detach())
    assert found_BN.abs().amax() > 0


def test_where_there_are_none_they_cannot_be_asked_for() -> None:
    images = pictures(tower("vit"))
    with pytest.raises(InputError, match="there are no prompts"):
        engine("vit").encode(images, NEEDS, VisualPrompts())
    first = VisualPrompts({0: torch.zeros(1, engine("vit").width)}, drop_after=True)
    with pytest.raises(InputError, match="dropped before the last block"):
        engine("vit").encode(images, NEEDS, first)
    kind = MAPS[0]
    with pytest.raises(CapabilityError, match=r"outputs of visual prompts are needed; .* a ResNet"):
        engine(kind).encode(pictures(tower(kind)), NEEDS, VisualPrompts())
