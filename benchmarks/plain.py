"""The straightforward path: all 77 positions of every text, every token of every image, open_clip's own blocks.

This is what the engine is held against, in numbers and in time. Weights are frozen here too.

Shapes: K classes, V context tokens, D text width, d joint width, B images, L prompt tokens, c image width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor

from vlmprompt.api import Backbone

ARCHITECTURE = "ViT-B-16-quickgelu"


def build() -> tuple[Any, Any, Backbone]:
    """One open_clip model with random weights, its tokenizer, and the engines on top of the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - open_clip's initialisation knows no generator
        model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
    return model, tokenizer, Backbone.from_model(model, tokenizer)


def tokens(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """(K,77) ids with start, end and padding."""
    ids: Tensor = tokenizer(list(texts))
    return ids


def encode_text(model: Any, ids_K77: Tensor, ctx_VD: Tensor, deep: Mapping[int, Tensor] | None = None) -> Tensor:
    """Texts behind one learned context: (K,d).

    Args:
        deep: layer -> (S,D), put in place of positions 1..S before that layer.
    """
    n_ctx = len(ctx_VD)
    words_KTD = model.token_embedding(ids_K77[:, : ids_K77.shape[1] - n_ctx])
    ctx_KVD = ctx_VD.expand(len(ids_K77), -1, -1)
    x_KTD = torch.cat([words_KTD[:, :1], ctx_KVD, words_KTD[:, 1:]], dim=1) + model.positional_embedding
    for layer, block in enumerate(model.transformer.resblocks):
        if deep and layer in deep:
            slots_KSD = deep[layer].expand(len(x_KTD), -1, -1)
            x_KTD = torch.cat([x_KTD[:, :1], slots_KSD, x_KTD[:, 1 + slots_KSD.shape[1] :]], dim=1)
        x_KTD = block(x_KTD, attn_mask=model.attn_mask)
    ends_K = ids_K77.argmax(dim=-1) + n_ctx
    features: Tensor = model.ln_final(x_KTD)[torch.arange(len(ids_K77)), ends_K] @ model.text_projection
    return features


def encode_image(model: Any, images: Tensor, prompts: Mapping[int, Tensor]) -> Tensor:
    """Images with L prompt tokens renewed in every layer named, from layer 0 on: (B,d)."""
    visual = model.visual
    patches_BNc = visual.conv1(images).flatten(2).transpose(1, 2)
    cls_B1c = visual.class_embedding.expand(len(images), 1, -1)
    x_BTc = torch.cat([cls_B1c, patches_BNc], dim=1) + visual.positional_embedding
    n_image = x_BTc.shape[1]
    x_BTc = visual.ln_pre(torch.cat([x_BTc, prompts[0].expand(len(images), -1, -1)], dim=1))
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer > 0 and layer in prompts:
            x_BTc = torch.cat([x_BTc[:, :n_image], prompts[layer].expand(len(images), -1, -1)], dim=1)
        x_BTc = block(x_BTc)
    features: Tensor = visual.ln_post(x_BTc)[:, 0] @ visual.proj
    return features
