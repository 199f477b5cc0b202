"""The models as they are trained: open_clip's CLIP, with the token rows of the vocabulary alone.

Shapes: B pictures or texts, T tokens, d joint width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.openclip.blocks import residual_blocks
from vlmprompt.backbones.openclip.build import clip_model
from vlmprompt.doodles.clip.parts import TEXT, VISION, architecture

CONTEXT = int(TEXT["context_length"])
_BUCKETS = 4
_WAVE = 0.1  # amplitude; open_clip's random positions have a deviation of 0.07


class Words:
    """Token ids of captions, renumbered to the rows that the model has.

    Attributes:
        ids: the tokenizer's ids of the rows, ascending; the last is the end of a text.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._tokenizer = open_clip.SimpleTokenizer()
        special = {self._tokenizer.sot_token_id, self._tokenizer.eot_token_id}
        self.ids = sorted(special.union(*(self._tokenizer.encode(text) for text in texts)))
        self._rows = {token: row for row, token in enumerate(self.ids)}

    def rows(self, text: str) -> list[int]:
        """Rows of a text with its start and end.

        Raises:
            KeyError: a token that is not in the vocabulary.
        """
        bare = [self._rows[token] for token in self._tokenizer.encode(text)]
        ids = [self._rows[self._tokenizer.sot_token_id], *bare, self._rows[self._tokenizer.eot_token_id]]
        if len(ids) > CONTEXT:
            raise ValueError(f"caption of {len(ids)} tokens: {text!r}")
        return ids


def some_patches(images: int, share: float, generator: torch.Generator) -> Tensor:
    """A random part of the patches of each image (Li et al., FLIP, 2023): numbers, (images, share of N)."""
    patches = (VISION["vit"]["image_size"] // VISION["vit"]["patch_size"]) ** 2
    return torch.rand(images, patches, generator=generator).topk(int(patches * share)).indices


def build(image_tower: str, rows: int, seed: int) -> Any:
    """A fresh model with a token table of `rows` rows."""
    parts = architecture(image_tower)
    model: Any = clip_model({**parts, "text_cfg": {**parts["text_cfg"], "vocab_size": rows}}, seed=seed)
    if image_tower == "vit":
        with torch.no_grad():
            model.visual.positional_embedding[1:] = _waves(model.visual.positional_embedding.shape[1])
    else:
        model.visual.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    return model


def _waves(width: int) -> Tensor:
    """Initial positions (N,width): sines and cosines of column and row, so that neighbours are alike from the start."""
    side = VISION["vit"]["image_size"] // VISION["vit"]["patch_size"]
    rates = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (columns, rows)]
    return _WAVE * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def encode_images(model: Any, images: Tensor, kept_BP: Tensor | None = None) -> Tensor:
    """Unit features (B,d) of images (B,3,H,W) in [0, 1].

    Args:
        kept_BP: numbers of the patches that a ViT sees; default: all.
    """
    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    if images.shape[-1] != side:
        images = F.interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (
        images.new_tensor(v)[:, None, None] for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    visual = model.visual
    images = (images - mean) / std
    if hasattr(visual, "class_embedding"):
        return F.normalize(_vit(visual, images, kept_BP), dim=-1)
    return F.normalize(visual(images.contiguous(memory_format=torch.channels_last)), dim=-1)


def _vit(visual: Any, images: Tensor, kept_BP: Tensor | None) -> Tensor:
    """open_clip's forward pass with fused attention, which is faster on a CPU."""
    cls_1c, positions_Nc = visual.positional_embedding.split([1, len(visual.positional_embedding) - 1])
    x_BNc = visual.conv1(images).flatten(2).transpose(1, 2) + positions_Nc
    if kept_BP is not None:
        x_BNc = x_BNc.gather(1, kept_BP[..., None].expand(-1, -1, x_BNc.shape[2]))
    x_BTc = torch.cat([(visual.class_embedding + cls_1c).expand(len(x_BNc), 1, -1), x_BNc], dim=1)
    x_BTc = visual.ln_pre(x_BTc)
    for block in residual_blocks(visual.transformer.resblocks):
        x_BTc = block.run(x_BTc)
    return visual.ln_post(x_BTc[:, 0]) @ visual.proj


def encode_texts(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Unit features (B,d) of texts; short ones apart from long ones, each part cut to its longest."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    size = -(-len(order) // _BUCKETS)
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    features = torch.cat([_texts(model, [rows[i] for i in part]) for part in parts])
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return F.normalize(features[back], dim=-1)


def _texts(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    x_BTc = model.token_embedding(ids_BT) + model.positional_embedding[:longest]
    for block in residual_blocks(model.transformer.resblocks):
        x_BTc = block.run(x_BTc, causal=True)
    ends = torch.tensor([len(row) - 1 for row in rows])
    return model.ln_final(x_BTc[torch.arange(len(rows)), ends]) @ model.text_projection


def joint_positives(captions: Sequence[str], names: Sequence[str | None]) -> Tensor:
    """(B,B) rows of targets: equal weight on all that has the same caption or shows the same class."""
    same = [
        [a == b or (x is not None and x == y) for b, y in zip(captions, names, strict=True)]
        for a, x in zip(captions, names, strict=True)
    ]
    target = torch.tensor(same, dtype=torch.float32)
    return target / target.sum(1, keepdim=True)


def contrastive_loss(images_Bd: Tensor, texts_Bd: Tensor, scale: Tensor, target_BB: Tensor) -> Tensor:
    """CLIP's symmetric loss with several positives a row (the target is symmetric up to its row sums)."""
    logits = scale * images_Bd @ texts_Bd.T
    return (F.cross_entropy(logits, target_BB) + F.cross_entropy(logits.T, target_BB)) / 2
