"""Where every token of a text goes: the class-independent prefix once, the rest of each class behind it.

The mask is causal and the feature is read at the end-of-text token, so positions behind it cannot matter,
and no position before the first class-dependent one sees a class. A text of class k is therefore
`[prefix | suffix_k]`, and suffixes are laid out flat, classes sorted by suffix length, so that nothing is
padded: token-wise layers run over all tokens at once, attention over groups of equal length.

T = suffix tokens of a chunk, K classes of it, V context tokens, J rows of the context table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.text.limit import require_fitting
from vlmprompt.backbones.types import ClassPosition, ClassTokens

# An entry of a suffix: a token id, or the index of a context token as (index,).
Entry = int | tuple[int]


@dataclass(frozen=True)
class Group:
    """Classes of one suffix length: `count` runs of `length` tokens from flat position `start`."""

    start: int
    count: int
    length: int

    @property
    def stop(self) -> int:
        """One past the last flat position."""
        return self.start + self.count * self.length


@dataclass(frozen=True)
class Chunk:
    """The suffixes of some classes, flat.

    Attributes:
        labels: which classes, in the order of the layout.
        ids_T: token ids, 0 where a context token stands.
        fixed_T: 1 where a token id stands, 0 where a context token stands.
        positions_T: position of each token in its text.
        slots_S: flat positions of context tokens.
        sources_S: the row of the context table for each of them.
        ends_K: flat position of each class's end-of-text token.
    """

    labels: tuple[int, ...]
    groups: tuple[Group, ...]
    ids_T: Tensor
    fixed_T: Tensor
    positions_T: Tensor
    slots_S: Tensor
    sources_S: Tensor
    ends_K: Tensor


@dataclass(frozen=True)
class Layout:
    """A whole label space: how many context tokens the prefix takes, and the chunks behind it."""

    prefix_context: int
    chunks: tuple[Chunk, ...]
    restore_K: Tensor  # position in the concatenated chunks of each class


@lru_cache(maxsize=16)
@outliving()
def build_layout(
    classes: ClassTokens,
    *,
    n_ctx: int,
    n_words: int,
    position: ClassPosition,
    per_class: bool,
    chunk_tokens: int | None,
    chunk_classes: int | None,
    limit: int,
    device: torch.device,
) -> Layout:
    """Lay out all classes.

    Args:
        n_ctx: V.
        n_words: fixed words in the prefix behind the context.
        per_class: every class has a context of its own, so the prefix is the start token alone.
        chunk_tokens: most suffix tokens in a chunk (at least one class), or None.
        chunk_classes: most classes in a chunk, or None.
        limit: longest text of the tower, in tokens.

    Raises:
        InputError: the text of a class does not fit; the message names the class with its token count.
    """
    in_prefix = 0 if per_class or position == "front" else n_ctx // 2 if position == "middle" else n_ctx
    prefix = 1 + in_prefix + n_words
    suffixes = [_suffix(classes, k, range(n_ctx), in_prefix, position) for k in range(len(classes))]
    require_fitting(classes, [prefix + len(suffix) for suffix in suffixes], limit)
    # Longest first: later chunks then fit into the memory that the first one freed.
    order = sorted(range(len(classes)), key=lambda k: -len(suffixes[k]))
    chunks = tuple(
        _chunk([suffixes[k] for k in labels], labels, prefix, n_ctx if per_class else 0, device)
        for labels in _split(order, [len(s) for s in suffixes], chunk_tokens, chunk_classes)
    )
    restore = torch.empty(len(order), dtype=torch.long)
    restore[torch.tensor(order)] = torch.arange(len(order))
    return Layout(in_prefix, chunks, restore.to(device))


def _suffix(classes: ClassTokens, k: int, ctx: range, in_prefix: int, position: ClassPosition) -> list[Entry]:
    """The entries behind the prefix for class k."""
    name: list[Entry] = list(classes.name_ids[k])
    tail: list[Entry] = list(classes.tail_ids[k])
    split = {"end": len(ctx), "middle": len(ctx) // 2, "front": 0}[position]
    before: list[Entry] = [(v,) for v in ctx[in_prefix:split]]
    behind: list[Entry] = [(v,) for v in ctx[split:]]
    return before + name + behind + tail


def _split(
    order: Sequence[int], lengths: Sequence[int], most_tokens: int | None, most_classes: int | None
) -> list[tuple[int, ...]]:
    """Consecutive parts, none with more tokens than the one before it.

    Equal sizes would be best for the allocator; sizes that never grow are enough: what one part frees, the
    next one fits into.
    """
    parts: list[list[int]] = [[]]
    tokens, limit = 0, most_tokens
    for k in order:
        full = (limit is not None and tokens + lengths[k] > limit) or len(parts[-1]) == most_classes
        if parts[-1] and full:
            parts.append([])
            limit = None if limit is None else min(limit, max(tokens, lengths[k]))
            tokens = 0
        parts[-1].append(k)
        tokens += lengths[k]
    return [tuple(part) for part in parts]


def _chunk(
    suffixes: Sequence[Sequence[Entry]], labels: tuple[int, ...], prefix: int, stride: int, device: torch.device
) -> Chunk:
    """Flatten suffixes sorted by length; context token v of class k is row k * stride + v of the table."""
    groups: list[Group] = []
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sources: list[int] = []
    ends: list[int] = []
    for label, suffix in zip(labels, suffixes, strict=True):
        if not groups or groups[-1].length != len(suffix):
            groups.append(Group(len(ids), 0, len(suffix)))
        last = groups[-1]
        groups[-1] = Group(last.start, last.count + 1, last.length)
        for offset, entry in enumerate(suffix):
            if isinstance(entry, tuple):
                slots.append(len(ids))
                sources.append(label * stride + entry[0])
            ids.append(0 if isinstance(entry, tuple) else entry)
            positions.append(prefix + offset)
        ends.append(len(ids) - 1)
    ids_T, positions_T, slots_S, sources_S, ends_K = (
        torch.tensor(part, dtype=torch.long, device=device) for part in (ids, positions, slots, sources, ends)
    )
    fixed_T = torch.ones(len(ids), device=device).index_fill(0, slots_S, 0.0)
    return Chunk(labels, tuple(groups), ids_T, fixed_T, positions_T, slots_S, sources_S, ends_K)
