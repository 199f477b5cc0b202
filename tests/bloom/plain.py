"""Bloom the plain way: a loop over layers, all 77 text positions, open_clip's own blocks, nothing shared.

Takes a method's state (named tensors) and options, never its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

WORDS = ["a", "photo", "of", "a"]


def fused_prompts(
    state: Mapping[str, Tensor], fusion: str, direction: str, draws: Mapping[str, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """M_v and M_l of each layer."""
    visual, text = [], []
    for i, (p_v, p_l) in enumerate(zip(state["visual_prompts"], state["text_prompts"], strict=True)):
        m_v, m_l = p_v, p_l
        if direction != "v2l":
            m_v = _fuse(fusion, p_v, _bottleneck(state, f"l2v.{i}", p_l), state, "v", i, draws)
        if direction != "l2v":
            m_l = _fuse(fusion, p_l, _bottleneck(state, f"v2l.{i}", p_v), state, "l", i, draws)
        visual.append(m_v)
        text.append(m_l)
    return visual, text


def logits(
    model: Any,
    tokenizer: Any,
    images: Tensor,
    names: Sequence[str],
    visual: Sequence[Tensor],
    text: Sequence[Tensor],
    *,
    first: int = 0,
    after_ln_pre: bool = False,
    drop_after: bool = False,
) -> Tensor:
    """exp(logit_scale) * cos, with `visual` and `text` entering at layers first, first + 1, ..."""
    image_Bd = torch.stack([_image(model, im, visual, first, after_ln_pre, drop_after) for im in images])
    text_Kd = torch.stack([_text(model, tokenizer, name, text, first) for name in names])
    unit_Bd, unit_Kd = (x / x.norm(dim=-1, keepdim=True) for x in (image_Bd, text_Kd))
    return model.logit_scale.exp() * unit_Bd @ unit_Kd.T


def _bottleneck(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    def linear(x: Tensor, part: str) -> Tensor:
        y = x @ state[f"{name}.{part}.weight"].T
        return y + state[f"{name}.{part}.bias"] if f"{name}.{part}.bias" in state else y

    return linear(linear(x, "reduce").clamp_min(0), "expand")


def _fuse(
    fusion: str, own: Tensor, cross: Tensor, state: Mapping[str, Tensor], side: str, i: int, draws: Mapping[str, Tensor]
) -> Tensor:
    if fusion == "add":
        return own + cross
    if fusion == "concat":
        return torch.cat([own, cross])
    gate = state[f"gate_{side}"][i]
    if fusion == "gate":
        e = gate.exp() / gate.exp().sum()
        return e[0] * own + e[1] * cross
    noisy = gate + draws[f"gumbel_{side}"][i] if draws else gate
    soft = noisy.exp() / noisy.exp().sum()
    choice = 0 if noisy[0] >= noisy[1] else 1
    hard = torch.tensor([1.0, 0.0] if choice == 0 else [0.0, 1.0])
    one = hard - soft.detach() + soft
    return one[0] * own + one[1] * cross


def _text(model: Any, tokenizer: Any, name: str, prompts: Sequence[Tensor], first: int) -> Tensor:
    """Positions 1..S hold the prompts; the rest of "a photo of a {name}." stays; more than 4 slots: no words."""
    n_slots = len(prompts[0])
    words = (WORDS * n_slots)[: max(n_slots, len(WORDS))]  # as many as slots, at least the template
    ids = tokenizer([f"{' '.join(words)} {name.replace('_', ' ')}."])[0]
    end = int((ids == 49407).nonzero()[0])
    rows = list(model.token_embedding(ids))
    if first == 0:
        rows[1 : 1 + n_slots] = list(prompts[0])
    x = torch.stack(rows) + model.positional_embedding
    for i, block in enumerate(model.transformer.resblocks):
        if i > 0 and 0 <= i - first < len(prompts):
            x = torch.cat([x[:1], prompts[i - first], x[1 + n_slots :]])
        x = block(x[None], attn_mask=model.attn_mask)[0]
    return model.ln_final(x)[end] @ model.text_projection


def _image(
    model: Any, image: Tensor, prompts: Sequence[Tensor], first: int, after_ln_pre: bool, drop_after: bool
) -> Tensor:
    visual = model.visual
    patches = visual.conv1(image[None])[0].flatten(1).T
    x = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    own = len(x)
    if first == 0 and not after_ln_pre:
        x = torch.cat([x, prompts[0]])
    x = visual.ln_pre(x)
    for i, block in enumerate(visual.transformer.resblocks):
        here = i - first
        if (here == 0 and (i > 0 or after_ln_pre)) or 0 < here < len(prompts):
            x = torch.cat([x[:own], prompts[here]])
        elif drop_after and here >= len(prompts):
            x = x[:own]
        x = block(x[None])[0]
    return visual.ln_post(x)[0] @ visual.proj
