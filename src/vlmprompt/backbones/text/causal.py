"""Causal text towers, exactly, at a fraction of the plain cost.

Plain prompt learning runs all positions of every (prompt, class) text. Three exact reductions are made
here (same numbers to rounding, gradients included): nothing behind the end-of-text token is computed; the
class-independent prefix `[SOT, ctx, words]`, deep prompts included, runs once a prompt and every class
attends to its keys and values; in the last layer only the end-of-text position is computed. Over many
classes the work is cut into chunks whose activations are recomputed in the backward pass, so memory does
not grow with the number of classes.

Shapes: P prompts (times B images where the text depends on the image), K classes, T suffix tokens of a
chunk, M prefix tokens, V context tokens, S slots of a deep prompt, D width, H heads, h = D/H, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.text.chunked import run_parts
from vlmprompt.backbones.text.layout import Chunk, Group, Layout, build_layout
from vlmprompt.backbones.text.tower import Chunking, TextBlock, Words
from vlmprompt.backbones.types import ClassTokens, TextPrompts
from vlmprompt.errors import InputError

# Suffix tokens (times prompts) whose activations are held at once; ViT-B text: about 0.3 MB a token.
CHUNK_TOKENS = {"cpu": 2048}
CHUNK_TOKENS_ACCELERATOR = 16384


@dataclass(frozen=True)
class CausalTower:
    """A causal text transformer, read at the end-of-text token: a `TextTower`."""

    words: Words
    joint_dim: int
    token_embedding: Any
    positional_embedding: Tensor
    blocks: Sequence[TextBlock]
    ln_final: Any
    project: Callable[[Tensor], Tensor]
    kind = "causal, read at the end token"

    @property
    def width(self) -> int:
        """D."""
        return self.positional_embedding.shape[1]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return len(self.blocks)

    @property
    def context_length(self) -> int:
        """Positions."""
        return self.positional_embedding.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tower lives."""
        return self.positional_embedding.device

    def embed(self, ids: Tensor) -> Tensor:
        """See `TextTower.embed`."""
        return self.token_embedding(ids)

    def encode(self, prompts: TextPrompts, classes: ClassTokens, chunk: Chunking) -> Tensor:
        """See `TextTower.encode`."""
        assert isinstance(prompts.position, str)
        ctx, per_class = prompts.ctx, prompts.scope == "class"
        # The context table: row v for a shared context, row k*V + v where every class has its own.
        table_PJD = ctx.transpose(0, 1).flatten(1, 2) if per_class else ctx
        words_WD = self._embed_words(prompts.words)
        if prompts.words and prompts.position != "end":
            raise InputError("fixed words go with class position 'end' only")
        layout = build_layout(
            classes,
            n_ctx=ctx.shape[-2],
            n_words=len(words_WD),
            position=prompts.position,
            per_class=per_class,
            chunk_tokens=self._chunk_tokens(len(table_PJD)) if chunk == "auto" else None,
            chunk_classes=None if chunk == "auto" else chunk,
            limit=self.context_length,
            device=self.device,
        )
        in_prefix = layout.prefix_context
        prefix = self._prefix(table_PJD[:, :in_prefix], words_WD, prompts.deep)
        recompute = torch.is_grad_enabled() and (chunk != "auto" or len(layout.chunks) > 1)
        return self._over_chunks(layout, table_PJD, prefix, recompute)

    def _over_chunks(self, layout: Layout, table_PJD: Tensor, prefix: list[Tensor], recompute: bool) -> Tensor:
        if recompute:
            runs = [partial(self._suffixes, part) for part in layout.chunks]
            features = run_parts(runs, [len(part.labels) for part in layout.chunks], [table_PJD, *prefix])
        else:
            features = torch.cat([self._suffixes(part, table_PJD, *prefix) for part in layout.chunks], dim=1)
        return features.index_select(1, layout.restore_K)

    def _embed_words(self, words: str) -> Tensor:
        return self.embed(self._ids(self.words.ids(words) if words else ()))

    def _ids(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self.device)

    def _chunk_tokens(self, n_prompts: int) -> int:
        return max(CHUNK_TOKENS.get(self.device.type, CHUNK_TOKENS_ACCELERATOR) // n_prompts, 1)

    def _prefix(self, ctx_PVD: Tensor, words_WD: Tensor, deep: Mapping[int, Tensor]) -> list[Tensor]:
        """Keys and values (2,P,H,M,h) of every layer for `[SOT, ctx, words]`."""
        n_prompts = len(ctx_PVD)
        start_1D = self.embed(self._ids(self.words.start))
        x_PMD = torch.cat([start_1D.expand(n_prompts, -1, -1), ctx_PVD, words_WD.expand(n_prompts, -1, -1)], dim=1)
        x_PMD = x_PMD + self.positional_embedding[: x_PMD.shape[1]]
        self._check_deep(deep, x_PMD.shape[1])
        kept = []
        for i, block in enumerate(self.blocks):
            if i in deep:
                deep_PSD = deep[i].repeat(n_prompts // len(deep[i]), 1, 1)
                x_PMD = torch.cat([x_PMD[:, :1], deep_PSD, x_PMD[:, 1 + deep_PSD.shape[1] :]], dim=1)
            if i == self.layers - 1:  # nobody reads the prefix's own output
                kept.append(block.kv(block.norm(x_PMD)))
            else:
                q, k, v = block.qkv(block.norm(x_PMD))
                x_PMD = block.finish(x_PMD, F.scaled_dot_product_attention(q, k, v, is_causal=True))
                kept.append(torch.stack([k, v]))
        return kept

    def _check_deep(self, deep: Mapping[int, Tensor], n_prefix: int) -> None:
        for layer, tokens in deep.items():
            if not 1 <= layer < self.layers:
                raise InputError(f"deep text prompts name layer {layer}; the tower has layers 1 to {self.layers - 1}")
            if tokens.shape[-2] > n_prefix - 1:
                raise InputError(
                    f"deep text prompts of {tokens.shape[-2]} tokens reach beyond the {n_prefix - 1} class-independent "
                    "ones, they would overwrite class names"
                )

    def _suffixes(self, part: Chunk, table_PJD: Tensor, *prefix: Tensor) -> Tensor:
        """The classes of one chunk: (P, K of the chunk, d)."""
        x = self.embed(part.ids_T) * part.fixed_T[:, None] + self.positional_embedding[part.positions_T]
        # Without context tokens in the suffix, all prompts share the input of layer 0: (1,T,D).
        x_PTD = x[None]
        if len(part.slots_S):
            slots_PSD = table_PJD.index_select(1, part.sources_S)
            x_PTD = x_PTD.expand(len(table_PJD), -1, -1).index_add(1, part.slots_S, slots_PSD.to(x.dtype))
        for block, kv in zip(self.blocks[:-1], prefix[:-1], strict=True):
            q, k, v = block.qkv(block.norm(x_PTD))
            x_PTD = block.finish(x_PTD, _attend(q, k, v, kv, part.groups))
        x_PKD = self._last_block(part, x_PTD, prefix[-1])
        return self.project(self.ln_final(x_PKD))

    def _last_block(self, part: Chunk, x_PTD: Tensor, prefix_kv: Tensor) -> Tensor:
        """The last layer at the end-of-text positions only: (P,K,D)."""
        block = self.blocks[-1]
        normed = block.norm(x_PTD)
        k, v = block.kv(normed)
        q = block.q(normed.index_select(1, part.ends_K))
        ends = []
        first = 0
        for g in part.groups:
            ends.append(Group(first, g.count, 1))
            first += g.count
        heads = _attend(q, k, v, prefix_kv, part.groups, queries=tuple(ends))
        return block.finish(x_PTD.index_select(1, part.ends_K), heads)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, prefix_kv: Tensor, groups: Sequence[Group], queries: Sequence[Group] | None = None
) -> Tensor:
    """Attention of suffix tokens to `[prefix | own text]`, one softmax, prefix keys never copied per class.

    Args:
        q: (P or 1, H, T, h), or one query a class where `queries` is given; k, v: (P or 1, H, T, h).
        prefix_kv: (2, P, H, M, h).
        groups: suffixes of equal length.
        queries: where each group's queries lie; default: where its keys lie, under a causal mask.

    Returns:
        (P, H, number of queries, h).
    """
    k_pre, v_pre = prefix_kv
    q = q * q.shape[-1] ** -0.5
    to_prefix = q @ k_pre.transpose(-1, -2)  # (P,H,T,M)
    out = []
    for own, ask in zip(groups, queries or groups, strict=True):
        q_g = _runs(q, ask)
        scores = q_g @ _runs(k, own).transpose(-1, -2)  # (P,H,count,query length,length)
        if ask.length > 1:
            scores = scores + causal_bias(own.length, scores)
        pre_g = _runs(to_prefix, ask)
        joint = torch.cat([pre_g, scores.expand(*pre_g.shape[:-1], -1)], dim=-1).softmax(dim=-1)
        w_pre, w_own = joint.split([pre_g.shape[-1], own.length], dim=-1)
        attended = (w_own @ _runs(v, own)).flatten(2, 3) + w_pre.flatten(2, 3) @ v_pre
        out.append(attended)
    return torch.cat(out, dim=2)


def _runs(x_PHTh: Tensor, g: Group) -> Tensor:
    """The tokens of a group, one row a class: (P,H,count,length,h)."""
    return x_PHTh[:, :, g.start : g.stop].unflatten(2, (g.count, g.length))


def causal_bias(length: int, like: Tensor) -> Tensor:
    """(T,T) additive mask: 0 on and below the diagonal, -inf above."""
    return torch.full((length, length), float("-inf"), device=like.device, dtype=like.dtype).triu_(1)
