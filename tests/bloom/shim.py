"""A backbone with ViT-B/16's widths and no weights, for counting parameters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


def backbone_of(d_v: int = 768, d_l: int = 512, layers: int = 12, text_layers: int | None = None) -> Any:
    def class_tokens(names: Any, **more: Any) -> Any:
        return SimpleNamespace(names=tuple(names))

    text = SimpleNamespace(
        width=d_l,
        layers=text_layers or layers,
        takes_deltas=True,
        class_tokens=class_tokens,
        unknown_names=lambda names: [],
        embed_words=lambda words: torch.zeros(len(words.split()), d_l),
        encode_sentences=lambda sentences, of=None: torch.ones(len(sentences), 512),
    )
    vision = SimpleNamespace(
        width=d_v, layers=layers, has_prompts=True, takes_deltas=True, joint_dim=512, n_local=196, require=id
    )
    return SimpleNamespace(
        text=text,
        vision=vision,
        device=torch.device("cpu"),
        dtype=torch.float32,
        scale=100.0,
        spec="ViT-B-16",
        is_vit=True,
    )
