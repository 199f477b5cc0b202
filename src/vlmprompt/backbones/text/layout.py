"""Where every token of a text goes.

Ragged texts (a causal mask, read at the end): no position before the first class-dependent one sees a class, and none
behind the end matters. A text of class k is therefore `[prefix | suffix_k]`, and suffixes are laid out flat, classes
sorted by suffix length, so that nothing is padded: token-wise layers run over all tokens at once, attention over
groups of equal length. Filled texts (any other mask): every position may see every other, so all of a text is its
suffix, and all texts of a chunk have one length.

T = suffix tokens of a chunk, K classes of it, V context tokens, J rows of the context table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, groupby
from typing import Literal

import torch
from torch import Tensor

from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.text.limit import require_fitting
from vlmprompt.backbones.text.tower import Chunking
from vlmprompt.backbones.text.windows import Group, Runs, adjoining
from vlmprompt.backbones.types import ClassPosition, ClassTokens

# An entry of a text: a token id, or the index of a context token as (index,).
Entry = int | tuple[int]


@dataclass(frozen=True)
class ClassToken:
    """CoCa's token behind the text, at the position behind the longest one (open_clip's `embed_cls`).

    Its mask, which holds for every token, hides pads. The released models hide what stands behind one instead: of a
    text of n tokens the class token sees the first pad too, and itself only where there is no pad. A token in the
    midst of a text that has the pad's id ("!" in CLIP's vocabulary) hides as well.

    Attributes:
        id: number of its row behind the vocabulary.
        shifted: the mask is that of the released models.
    """

    id: int
    shifted: bool


@dataclass(frozen=True)
class Frame:
    """What stands around the words of a text.

    Attributes:
        start: ids in front.
        limit: most tokens of a text with its start, end and final ids.
        fill: whether pads bring every text to `limit`, to the longest of its chunk, or there are none.
        pad: their id.
        final: ids at the very end, behind the pads.
        class_token: added behind all; None: none.
    """

    start: tuple[int, ...]
    limit: int
    fill: Literal["limit", "longest", "none"] = "none"
    pad: int = 0
    final: tuple[int, ...] = ()
    class_token: ClassToken | None = None


@dataclass(frozen=True)
class Assembly:
    """How prompts and class names become texts.

    Attributes:
        n_ctx: V.
        word_ids: fixed words behind the context.
        position: where the class name stands.
        per_class: every class has context rows of its own.
        n_prefix: tokens that are left to the prefix, which runs once for all classes.
    """

    n_ctx: int
    word_ids: tuple[int, ...]
    position: ClassPosition
    per_class: bool
    n_prefix: int = 0

    @property
    def context_before(self) -> int:
        """Context tokens before the class name."""
        return {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[self.position]

    @property
    def n_before(self) -> int:
        """Context tokens and words before the class name: what deep prompts may replace."""
        return self.context_before + len(self.word_ids)


@dataclass(frozen=True)
class Chunk:
    """The suffixes of some classes, flat.

    Attributes:
        labels: which classes, in the order of the layout.
        runs: where their suffixes lie.
        ids_T: token ids, 0 where a context token stands.
        fixed_T: 1 where a token id stands, 0 where a context token stands.
        positions_T: position of each token in its text.
        slots_S: flat positions of context tokens.
        sources_S: the row of the context table for each of them.
        first_K: flat position of each class's first token behind the start tokens, which a deep prompt may replace.
        ends_K: flat position of each class's last token that is no pad: the end-of-text token where there is one, the
            class token where there is one.
    """

    labels: tuple[int, ...]
    runs: Runs
    ids_T: Tensor
    fixed_T: Tensor
    positions_T: Tensor
    slots_S: Tensor
    sources_S: Tensor
    first_K: Tensor
    ends_K: Tensor


@dataclass(frozen=True)
class Layout:
    """A whole label space: the chunks, and where each class is in them."""

    chunks: tuple[Chunk, ...]
    restore_K: Tensor  # position in the concatenated chunks of each class


@dataclass(frozen=True)
class _Suffix:
    """Entries of one text behind the prefix; the first `n_real` of them are no pads of a filled text."""

    entries: tuple[Entry, ...]
    n_real: int
    sees_itself: bool = True
    hidden: tuple[int, ...] = ()

    @property
    def order(self) -> tuple[int, bool]:
        """Suffixes that are equal in this make a group."""
        return len(self.entries), self.sees_itself


@lru_cache(maxsize=16)
@outliving()
def build_layout(
    classes: ClassTokens,
    assembly: Assembly,
    frame: Frame,
    *,
    chunk: Chunking,
    most_tokens: int,
    device: torch.device,
) -> Layout:
    """Lay out all classes.

    Args:
        chunk: classes in a chunk; "auto": as many as have `most_tokens` suffix tokens together, at least one.

    Raises:
        InputError: the text of a class does not fit; the message names the class with its token count.
    """
    texts = [_text(classes, k, assembly, frame) for k in range(len(classes))]
    # Before anything is laid out, so that the error can name the class and count its tokens.
    require_fitting(classes, [len(text) + len(frame.final) for text in texts], frame.limit)
    suffixes = [_suffix(text, assembly.n_prefix, frame) for text in texts]
    # Longest first: later chunks then fit into the memory that the first one freed.
    order = sorted(range(len(classes)), key=lambda k: suffixes[k].order, reverse=True)
    lengths = [frame.limit if frame.fill == "limit" else len(s.entries) for s in suffixes]
    limits = (max(most_tokens, 1), None) if chunk == "auto" else (None, chunk)
    parts = _split(order, lengths, *limits, padded=frame.fill != "none")
    chunks = []
    known: dict[object, Runs] = {}
    for labels in parts:
        own = _filled([suffixes[k] for k in labels], frame)
        lies = _groups(own), _hidden(own)
        if lies not in known:
            known[lies] = Runs.of(*lies, device)
        chunks.append(_chunk(own, labels, known[lies], assembly, frame))
    # `order` says which class is at each place; its inverse says at which place each class is.
    restore = torch.empty(len(order), dtype=torch.long)
    restore[torch.tensor(order)] = torch.arange(len(order))
    return Layout(tuple(chunks), restore.to(device))


def _text(classes: ClassTokens, k: int, assembly: Assembly, frame: Frame) -> list[Entry]:
    """All entries of class k's text."""
    # One rule for all class positions: at the "end" no context is left for behind the name, in "front" all of it is.
    split = assembly.context_before
    before: list[Entry] = [*frame.start, *((v,) for v in range(split)), *assembly.word_ids]
    return [*before, *classes.name_ids[k], *((v,) for v in range(split, assembly.n_ctx)), *classes.tail_ids[k]]


def _suffix(text: list[Entry], n_prefix: int, frame: Frame) -> _Suffix:
    """What is behind the prefix, with the class token and what that one sees."""
    token = frame.class_token
    if token is None:
        return _Suffix(tuple(text[n_prefix:]), len(text) - n_prefix)
    # Counted from the first token behind the prefix, as entries are; released models hide the token behind each pad.
    hidden = tuple(i + token.shifted - n_prefix for i, entry in enumerate(text) if entry == frame.pad)
    # Of the pads of a released model its class token sees the first: that one is laid out, where the text leaves room.
    has_pad = token.shifted and len(text) < frame.limit
    entries = (*text[n_prefix:], *((frame.pad,) if has_pad else ()), token.id)
    return _Suffix(entries, len(entries), not has_pad, hidden)


def _filled(suffixes: Sequence[_Suffix], frame: Frame) -> list[_Suffix]:
    """Brought to one length by pads, where the frame says so."""
    if frame.fill == "none":
        return list(suffixes)
    longest = max(len(s.entries) for s in suffixes) + len(frame.final)
    length = frame.limit if frame.fill == "limit" else longest
    out = []
    for s in suffixes:
        pads = (frame.pad,) * (length - len(s.entries) - len(frame.final))
        # `n_real` stays: `ends_K` shall be the last token before the pads, not the last of the row.
        out.append(_Suffix(s.entries + pads + frame.final, s.n_real))
    return out


def _split(
    order: Sequence[int], lengths: Sequence[int], most_tokens: int | None, most_classes: int | None, *, padded: bool
) -> list[tuple[int, ...]]:
    """Consecutive parts, none with more tokens than the one before it; `padded` texts count as the longest of a part.

    Equal sizes would be best for the allocator; sizes that never grow are enough: what one part frees, the
    next one fits into.
    """
    parts: list[list[int]] = [[]]
    tokens, limit = 0, most_tokens
    for k in order:
        # `order` is from long to short, so the first class of a part is the length to which all of it is padded.
        length = lengths[parts[-1][0]] if padded and parts[-1] else lengths[k]
        full = (limit is not None and tokens + length > limit) or len(parts[-1]) == most_classes
        if parts[-1] and full:
            parts.append([])
            # No part may be larger than the one before it: its tensors reuse the memory that this one has freed.
            limit = None if limit is None else min(limit, max(tokens, lengths[k]))
            tokens, length = 0, lengths[k]
        parts[-1].append(k)
        tokens += length
    return [tuple(part) for part in parts]


def _groups(suffixes: Sequence[_Suffix]) -> tuple[Group, ...]:
    """Suffixes of one order after the other: equal ones are neighbours, and a group is one block of memory."""
    orders = ((len(list(equal)), *order) for order, equal in groupby(suffix.order for suffix in suffixes))
    return adjoining(orders)


def _hidden(suffixes: Sequence[_Suffix]) -> tuple[int, ...]:
    """Flat positions of what no token of its text may attend to."""
    starts = accumulate((len(suffix.entries) for suffix in suffixes), initial=0)
    return tuple(start + at for start, suffix in zip(starts, suffixes, strict=False) for at in suffix.hidden)


def _chunk(suffixes: Sequence[_Suffix], labels: tuple[int, ...], runs: Runs, assembly: Assembly, frame: Frame) -> Chunk:
    """Flatten suffixes; context token v of class k is row k * stride + v of the table."""
    # Stride 0: all classes read the rows 0 to V - 1 of the table.
    stride = assembly.n_ctx if assembly.per_class else 0
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sources: list[int] = []
    firsts: list[int] = []
    ends: list[int] = []
    for label, suffix in zip(labels, suffixes, strict=True):
        # Start tokens that are not in the prefix come first in the suffix, and no deep prompt may replace them.
        firsts.append(len(ids) + max(len(frame.start) - assembly.n_prefix, 0))
        ends.append(len(ids) + suffix.n_real - 1)
        for offset, entry in enumerate(suffix.entries):
            if isinstance(entry, tuple):
                slots.append(len(ids))
                sources.append(label * stride + entry[0])
            # A context token has no id. 0 is one that every table has; `fixed_T` takes its embedding out again.
            ids.append(0 if isinstance(entry, tuple) else entry)
            positions.append(assembly.n_prefix + offset)
        if frame.class_token is not None:  # last in every text, at the position behind the longest one
            positions[-1] = frame.limit
    ids_T, positions_T, slots_S, sources_S, first_K, ends_K = (
        torch.tensor(part, dtype=torch.long, device=runs.device)
        for part in (ids, positions, slots, sources, firsts, ends)
    )
    fixed_T = torch.ones(len(ids), device=runs.device).index_fill(0, slots_S, 0.0)
    return Chunk(labels, runs, ids_T, fixed_T, positions_T, slots_S, sources_S, first_K, ends_K)
