"""A causal tower of frozen blocks, with the prefix of each prompt beside the suffixes of a chunk: one pass a layer.

Nothing is kept between chunks, so each of them runs the prefixes again; see `is_cheap` for where that is worth it.

Shapes: P prompts, M prefix tokens, T suffix tokens of a chunk, K its classes, N = P*(M + T) token rows, prefixes first,
D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vlmprompt.backbones.text.frozen import FrozenBlock
from vlmprompt.backbones.text.gathers import Gathers, Shape, gathers
from vlmprompt.backbones.text.layout import Chunk, Layout
from vlmprompt.backbones.text.windows import Runs

# What prefixes may be of the suffixes of a chunk, where there are several chunks.
SHARE = 0.1


@dataclass(frozen=True)
class Tables:
    """Of the layers of a chunk, see `Gathers`; chunks with the same runs share them.

    Attributes:
        first: of the first layer.
        inner: of all between.
        last: of the last layer, where the last token of each class asks.
        asking_Q: rows of these tokens.
    """

    first: Gathers
    inner: Gathers
    last: Gathers
    asking_Q: Tensor


def is_cheap(layout: Layout, n_prefix: int) -> bool:
    """Whether running the prefixes with every chunk costs little."""
    return len(layout.chunks) == 1 or n_prefix <= SHARE * len(layout.chunks[0].ids_T)


def run(
    blocks: Sequence[FrozenBlock],
    part: Chunk,
    prefix_PMD: Tensor,
    suffix_PTD: Tensor,
    deep: Mapping[int, Tensor],
    n_start: int,
) -> Tensor:
    """What the last block gives at the last token of each class: (P,K,D).

    Args:
        suffix_PTD: (1,T,D) where all prompts share what stands behind them.
        deep: layer, from 1 on -> (P,S,D), which replaces the prefix from its token `n_start` on.
    """
    n_prompts, n_prefix, _ = prefix_PMD.shape
    *before, last = blocks
    shares = bool(before) and len(suffix_PTD) == 1 and not suffix_PTD.requires_grad
    shape = (n_prompts, last.heads, n_prefix, shares)
    tables = part.runs.once((Tables, *shape), partial(_tables, part.runs, *shape))
    x_ND = prefix_PMD.flatten(0, 1)
    if shares:
        x_ND = before[0](tables.first, x_ND, suffix_PTD[0])
    else:
        x_ND = torch.cat([x_ND, suffix_PTD.expand(n_prompts, -1, -1).flatten(0, 1)])
    for i in range(int(shares), len(before)):
        x_ND = before[i](tables.inner, _replaced(x_ND, deep.get(i), n_prefix, n_start))
    x_ND = _replaced(x_ND, deep.get(len(before)), n_prefix, n_start)
    return last.last(tables.last, x_ND, tables.asking_Q).unflatten(0, (n_prompts, -1))


def _replaced(x_ND: Tensor, deep_PSD: Tensor | None, n_prefix: int, n_start: int) -> Tensor:
    """The rows with a layer's deep prompts in place of those of the prefixes."""
    if deep_PSD is None:
        return x_ND
    n_prompts, n_slots, _ = deep_PSD.shape
    x_ND = x_ND.clone()  # not in place: a backward pass may read what is replaced
    x_ND[: n_prompts * n_prefix].unflatten(0, (n_prompts, -1))[:, n_start : n_start + n_slots] = deep_PSD
    return x_ND


def _tables(runs: Runs, n_prompts: int, n_heads: int, n_prefix: int, shared: bool) -> Tables:
    inner = gathers(runs.windows, Shape(n_prompts, n_heads, n_prefix))
    n_tokens, last_K = runs.groups[-1].stop, torch.cat([group.last_K for group in runs.groups]).to(runs.device)
    first_P = n_prefix * n_prompts + n_tokens * torch.arange(n_prompts, device=runs.device)
    return Tables(
        gathers(runs.windows, Shape(n_prompts, n_heads, n_prefix, shared=True)) if shared else inner,
        inner,
        gathers(runs.end_windows, Shape(n_prompts, n_heads, n_prefix, ends=True)),
        (first_P[:, None] + last_K).flatten(),
    )
