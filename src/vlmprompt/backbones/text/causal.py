"""Causal text towers, exactly, at a fraction of the plain cost.

Plain prompt learning runs all positions of every (prompt, class) text. Three exact reductions are made
here (same numbers to rounding, gradients included): nothing behind the end-of-text token is computed; the
class-independent prefix `[SOT, ctx, words]`, deep and inserted prompts included, runs once a prompt and every class
attends to its keys and values; in the last layer only the position that is read is computed. Over many
classes the work is cut into chunks; beyond a budget of memory, their activations are recomputed in the backward pass.

Shapes: P prompts (times B images where the text depends on the image), K classes, T suffix tokens of a
chunk, M prefix tokens, V context tokens, S slots of a deep prompt, R inserted
tokens, D width, H heads, h = D/H, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.adapting import adaptable, adapted
from vlmprompt.backbones.text.attention import attend, attend_ends
from vlmprompt.backbones.text.chunked import SUFFIX_TOKENS, most_tokens, run_layout
from vlmprompt.backbones.text.frozen import FrozenBlock
from vlmprompt.backbones.text.fused import is_cheap, run
from vlmprompt.backbones.text.inserting import Widened, put
from vlmprompt.backbones.text.layout import Chunk, ClassToken, Frame, Layout, build_layout
from vlmprompt.backbones.text.placement import Placement, place, with_prefix
from vlmprompt.backbones.text.tower import Chunking, TextBlock, Words, ids_tensor
from vlmprompt.backbones.types import ClassTokens, TextPrompts


@dataclass(frozen=True)
class CausalTower:
    """A causal text transformer, read at the end-of-text token or at a class token behind it: a `TextTower`.

    Attributes:
        class_token: CoCa's, or None; its embedding (D) is `class_embedding`.
    """

    words: Words
    joint_dim: int
    token_embedding: Any
    positional_embedding: Tensor
    blocks: Sequence[TextBlock]
    ln_final: Any
    project: Callable[[Tensor], Tensor]
    class_token: ClassToken | None = None
    class_embedding: Tensor | None = None

    @property
    def kind(self) -> str:
        """For people."""
        return f"causal, read at the {'end token' if self.class_token is None else 'class token behind the text'}"

    @property
    def width(self) -> int:
        """D."""
        return self.positional_embedding.shape[1]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return len(self.blocks)

    @property
    def takes_deltas(self) -> bool:
        """Whether its blocks can be changed."""
        return adaptable(self.blocks)

    @property
    def context_length(self) -> int:
        """Positions of text."""
        positions = self.positional_embedding.shape[0] - (self.class_token is not None)
        return positions if self.words.longest is None else min(positions, self.words.longest)

    @property
    def vocabulary(self) -> int | None:
        """Rows of the table of token embeddings; None where there is no table."""
        return getattr(self.token_embedding, "num_embeddings", None)

    @property
    def device(self) -> torch.device:
        """Where the tower lives."""
        return self.positional_embedding.device

    def embed(self, ids: Tensor) -> Tensor:
        """See `TextTower.embed`."""
        return self.token_embedding(ids)

    def encode(self, prompts: TextPrompts, classes: ClassTokens, chunk: Chunking) -> Tensor:
        """See `TextTower.encode`."""
        placement = place(prompts, classes, self.words, self.layers)
        frame = Frame(self.words.start, self.context_length, pad=self.words.pad, class_token=self.class_token)
        if self.class_token is None or self.words.pad not in placement.assembly.word_ids:
            placement = with_prefix(placement, len(self.words.start))
        else:  # words that hide their neighbours stand in the suffixes, which know of it
            placement = replace(placement, assembly=replace(placement.assembly, n_prefix=len(self.words.start)))
        layout = build_layout(
            classes,
            placement.assembly,
            frame,
            chunk=chunk,
            most_tokens=most_tokens(SUFFIX_TOKENS, self.device, len(placement.table_PJD), self.width),
            device=self.device,
        )
        # Tried first: this way computes the prefixes together with the suffixes, so `_prefix` is not needed.
        if (frozen := self._frozen(placement, layout)) is not None:
            return run_layout(layout, partial(self._side_by_side, frozen, placement), placement.tensors(), chunk)
        prefix = self._prefix(placement)
        if placement.assembly.n_prefix > len(self.words.start):
            placement = replace(placement, deep={})  # they are in the prefix
        if placement.shares_inserted:
            placement = replace(placement, inserted={})  # so are they
        # The prefix must be among the inputs: parts that are recomputed pass gradients to their inputs alone.
        inputs = [*placement.tensors(), *prefix]
        return run_layout(layout, partial(self._suffixes, placement), inputs, chunk)

    def _frozen(self, placement: Placement, layout: Layout) -> list[FrozenBlock] | None:
        """The blocks as they run prefixes beside suffixes, where they can.

        They run what is in the prefixes of all classes and keeps its place, without a cast: deep prompts of single
        classes, inserted tokens and deltas are for the way in pieces.
        """
        n_prefix = placement.assembly.n_prefix
        in_suffixes = placement.deep and n_prefix == len(self.words.start)
        if in_suffixes or placement.inserted or placement.deltas or torch.is_autocast_enabled(self.device.type):
            return None
        if not n_prefix or not is_cheap(layout, n_prefix):
            return None
        frozen = [block.frozen() for block in self.blocks]
        return None if None in frozen else [block for block in frozen if block is not None]

    def _side_by_side(
        self, blocks: Sequence[FrozenBlock], placement: Placement, part: Chunk, *inputs: Tensor
    ) -> Tensor:
        """The classes of one chunk, with the prefixes before them: (P, K of the chunk, d)."""
        placement = placement.holding(inputs)
        prefix_PMD, suffix_PTD = self._prefix_input(placement), self._suffix_input(placement, part)
        x_PKD = run(blocks, part, prefix_PMD, suffix_PTD, placement.deep, len(self.words.start))
        return self.project(self.ln_final(x_PKD))

    def inserted(self, prompts: TextPrompts, classes: ClassTokens) -> Tensor:
        """See `TextEngine.encode_inserted`. They see the start tokens and each other alone, so no class is run."""
        placement, n_start = place(prompts, classes, self.words, self.layers), len(self.words.start)
        n_prompts = len(placement.table_PJD)
        n_classes = max(tokens.shape[1] for tokens in placement.inserted.values())
        # Q texts, one for each prompt and class: the start tokens, behind them the inserted ones from their layer on.
        x_QTD = self._embed_all(self.words.start, n_prompts * n_classes) + self.positional_embedding[:n_start]
        for i, block in enumerate(adapted(self.blocks, placement.deltas.keyed(0))):
            if i in placement.inserted:
                tokens_QRD = placement.inserted[i].expand(-1, n_classes, -1, -1).flatten(0, 1)
                x_QTD = put(x_QTD, n_start, tokens_QRD, over=x_QTD.shape[1] - n_start)
            if x_QTD.shape[1]:  # a tower without start tokens has nothing to run before tokens are inserted
                q, k, v = block.qkv(block.norm(x_QTD))
                x_QTD = block.finish(x_QTD, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return self.project(self.ln_final(x_QTD[:, n_start:])).unflatten(0, (n_prompts, n_classes))

    def _prefix(self, placement: Placement) -> list[Tensor]:
        """Keys and values (2,P,H,M,h) of every layer for the start tokens, and what else stands before the class."""
        assembly, n_start, x_PMD = placement.assembly, len(self.words.start), self._prefix_input(placement)
        inserted = placement.inserted if placement.shares_inserted else {}
        n_inserted, kept = 0, []
        for i, block in enumerate(adapted(self.blocks, placement.deltas.keyed(0))):
            # Before the deep prompts, whose place they move: these stay the text's own first tokens.
            if i in inserted:
                tokens_PRD = inserted[i].squeeze(1)
                x_PMD = put(x_PMD, n_start, tokens_PRD, over=n_inserted)
                n_inserted = tokens_PRD.shape[1]
            if assembly.n_prefix > n_start and i in placement.deep:
                deep_PSD = placement.deep[i]
                x_PMD = put(x_PMD, n_start + n_inserted, deep_PSD, over=deep_PSD.shape[1])
            if i == self.layers - 1 or not x_PMD.shape[1]:  # nobody reads the prefix's own output
                kept.append(block.kv(block.norm(x_PMD)))
            else:
                q, k, v = block.qkv(block.norm(x_PMD))
                # Causal, so what a prefix token gives is the same whatever class follows: one run serves all.
                x_PMD = block.finish(x_PMD, F.scaled_dot_product_attention(q, k, v, is_causal=True))
                kept.append(torch.stack([k, v]))
        return kept

    def _prefix_input(self, placement: Placement) -> Tensor:
        """What the first layer reads of the start tokens and what else stands before the class: (P,M,D)."""
        assembly, n_prompts = placement.assembly, len(placement.table_PJD)
        parts = [self._embed_all(self.words.start, n_prompts)]
        if assembly.n_prefix > len(self.words.start):
            parts += [placement.table_PJD[:, : assembly.context_before], self._embed_all(assembly.word_ids, n_prompts)]
        return torch.cat(parts, dim=1) + self.positional_embedding[: assembly.n_prefix]

    def _suffix_input(self, placement: Placement, part: Chunk) -> Tensor:
        """What it reads of the classes of a chunk: (P,T,D), or (1,T,D) where no context token stands there."""
        # At the place of a context token stands id 0: a zero in `fixed_T` removes its embedding, and `context` adds the
        # learned token to the positional embedding that is left.
        x_TD = self._embed_suffix(part.ids_T) * part.fixed_T[:, None] + self.positional_embedding[part.positions_T]
        return placement.context(part, x_TD)

    def _embed_all(self, ids: Sequence[int], n_prompts: int) -> Tensor:
        """The same ids for every prompt: (P,T,D)."""
        return self.embed(ids_tensor(ids, self.device)).expand(n_prompts, -1, -1)

    def _suffixes(self, placement: Placement, part: Chunk, *inputs: Tensor) -> Tensor:
        """The classes of one chunk: (P, K of the chunk, d)."""
        # In the order of `encode`: what the placement holds, then keys and values of the prefix, one tensor a layer.
        placement = placement.holding(inputs[: -self.layers])
        prefix = inputs[-self.layers :]
        # A key of its own for each chunk, 0 for the prefix: a chunk that is computed again drops the same values.
        blocks = adapted(self.blocks, placement.deltas.keyed(1 + part.labels[0]))
        # Without context tokens in the suffix, all prompts share the input of layer 0: (1,T,D).
        x_PTD = self._suffix_input(placement, part)
        deep, inserted = placement.deep_of(part), placement.inserted_of(part)
        widened = None
        for i, (block, kv) in enumerate(zip(blocks, prefix, strict=True)):
            # First the inserted tokens: they move the text's own tokens, and from then on `part` says where these are.
            if i in inserted and widened is None:
                widened = Widened.of(part, inserted[i].shape[2])
                part, x_PTD = widened.part, widened.insert(x_PTD, inserted[i])
            elif i in inserted:
                assert widened is not None
                x_PTD = widened.overwrite(x_PTD, inserted[i])
            if i in deep:
                x_PTD = _replaced(x_PTD, deep[i], part)
            if i == self.layers - 1:
                break  # of the last layer only the tokens that are read, see below
            heads = attend(block.qkv(block.norm(x_PTD)), kv, part.runs.windows)
            x_PTD = block.finish(x_PTD, heads)
        x_PKD = _last_block(blocks[-1], part, x_PTD, prefix[-1])
        return self.project(self.ln_final(x_PKD))

    def _embed_suffix(self, ids_T: Tensor) -> Tensor:
        if self.class_token is None or self.class_embedding is None:
            return self.embed(ids_T)
        is_class_T = ids_T == self.class_token.id
        # That id is behind the table's last row, where a lookup would fail: row 0 is looked up, and not taken.
        return torch.where(is_class_T[:, None], self.class_embedding, self.embed(ids_T.masked_fill(is_class_T, 0)))


def _last_block(block: TextBlock, part: Chunk, x_PTD: Tensor, prefix_kv: Tensor) -> Tensor:
    """The last layer at the positions that are read only: (P,K,D)."""
    normed = block.norm(x_PTD)
    kv = block.kv(normed)  # of all tokens, as the last one of each class attends to all of its text
    q = block.q(normed.index_select(1, part.ends_K))
    heads = attend_ends(q, kv, prefix_kv, part.runs.end_windows)
    return block.finish(x_PTD.index_select(1, part.ends_K), heads)


def _replaced(x_PTD: Tensor, deep_PKSD: Tensor, part: Chunk) -> Tensor:
    """Deep prompts in place of the first tokens of every class: (P,T,D)."""
    at_KS = part.first_K[:, None] + torch.arange(deep_PKSD.shape[2], device=part.first_K.device)
    tokens_PSD = deep_PKSD.flatten(1, 2).to(x_PTD.dtype)
    # Into a copy, never in place: x may be one tensor (1,T,D) that is only expanded to all prompts.
    return x_PTD.expand(len(tokens_PSD), -1, -1).index_copy(1, at_KS.flatten(), tokens_PSD)
