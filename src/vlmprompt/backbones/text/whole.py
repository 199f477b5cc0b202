"""Text towers whose texts share nothing: every position may see every other, so whole texts are run.

What is still exact: embeddings of fixed tokens are looked up once for all prompts, the first layer's queries, keys and
values are computed once for all texts that have a token at one position (see `Repeats`), the last layer computes the
position alone that is read (see `OwnTransformer`), and over many classes the work is cut into chunks, whose
activations are recomputed in the backward pass beyond a budget of memory. Where pads are seen, a text is never cut: it
would have another feature.

Shapes: P prompts, K classes, Q = P*K texts, T tokens of a text, S slots of a deep prompt, R inserted tokens, D width,
d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.adapting import adaptable, adapted
from vlmprompt.backbones.deltas import TowerDeltas
from vlmprompt.backbones.text.chunked import WHOLE_TOKENS, most_tokens, run_layout
from vlmprompt.backbones.text.inserting import put
from vlmprompt.backbones.text.layout import Chunk, Frame, build_layout
from vlmprompt.backbones.text.placement import Placement, place
from vlmprompt.backbones.text.repeats import Repeats
from vlmprompt.backbones.text.tower import Chunking, TextBlock, Words
from vlmprompt.backbones.types import ClassTokens, TextPrompts
from vlmprompt.errors import CapabilityError


@dataclass(frozen=True)
class Texts:
    """Whole texts as embeddings without position.

    Attributes:
        x_QTD: their tokens.
        real_QT: False at pads.
        ends_Q: position of the last token that is no pad.
        deep: layer -> (Q,S,D), to be put in place of the text's tokens from `first` on.
        first: number of start tokens.
        deltas: of the tower's blocks; of a tower that takes none, there are none.
        inserted: layer -> (Q,R,D), to be put behind the start tokens at the first layer named, and in place of those at
            further ones. They are no pads and have no position.
        repeats: what the first layer may share, or None.
    """

    x_QTD: Tensor
    real_QT: Tensor
    ends_Q: Tensor
    deep: Mapping[int, Tensor]
    first: int
    deltas: TowerDeltas = field(default_factory=TowerDeltas)
    inserted: Mapping[int, Tensor] = field(default_factory=dict)
    repeats: Repeats | None = None

    def n_inserted(self, layer: int) -> int:
        """R where inserted tokens are in this layer's input, 0 before the first layer named."""
        return next((tokens.shape[1] for i, tokens in self.inserted.items() if i <= layer), 0)

    def entering(self, layer: int, x_QTD: Tensor) -> Tensor:
        """A layer's input, with its inserted tokens and its deep prompt put in."""
        if layer in self.inserted:
            x_QTD = put(x_QTD, self.first, self.inserted[layer], over=self.n_inserted(layer - 1))
        if layer in self.deep:
            tokens_QSD = self.deep[layer]
            x_QTD = put(x_QTD, self.first + self.n_inserted(layer), tokens_QSD, over=tokens_QSD.shape[1])
        return x_QTD

    def longer(self) -> Texts:
        """What is no pad, and where texts end, with the inserted tokens counted."""
        n = self.n_inserted(max(self.inserted))
        seen_QR = self.real_QT.new_ones(len(self.real_QT), n)
        real_QT = torch.cat([self.real_QT[:, : self.first], seen_QR, self.real_QT[:, self.first :]], dim=1)
        return replace(self, real_QT=real_QT, ends_Q=self.ends_Q + n)


@dataclass(frozen=True)
class WholeTower:
    """A tower that is given whole texts: a `TextTower`. The kind to wrap any model in that takes embeddings.

    Attributes:
        embedding: token ids (*) -> (*,D), without position.
        run: whole texts to pooled features (Q,d).
        width: D.
        context_length: most tokens of a text, start and end included.
        layers: that `run` puts deep prompts and inserted tokens into; 0: none.
        blocks: those whose deltas `run` takes from `Texts`; none for a tower that takes no deltas.
        fill: "limit" where pads are seen, so that every text has `context_length` tokens; "longest" where they are not.
    """

    words: Words
    embedding: Callable[[Tensor], Tensor]
    run: Callable[[Texts], Tensor]
    width: int
    joint_dim: int
    context_length: int
    device: torch.device
    layers: int = 0
    fill: Literal["limit", "longest"] = "longest"
    kind: str = "whole texts"
    blocks: Sequence[TextBlock] = ()

    @property
    def vocabulary(self) -> int | None:
        """Rows of the table of token embeddings; None where there is no table."""
        return getattr(self.embedding, "num_embeddings", None)

    @property
    def takes_deltas(self) -> bool:
        """Whether its blocks can be changed."""
        return adaptable(self.blocks)

    def embed(self, ids: Tensor) -> Tensor:
        """See `TextTower.embed`."""
        return self.embedding(ids)

    def encode(self, prompts: TextPrompts, classes: ClassTokens, chunk: Chunking) -> Tensor:
        """See `TextTower.encode`."""
        return self._encode(prompts, classes, chunk, self.run)

    def inserted(self, prompts: TextPrompts, classes: ClassTokens) -> Tensor:
        """See `TextEngine.encode_inserted`. They see the whole text of each class."""
        run = self.run
        if not isinstance(run, OwnTransformer):
            raise CapabilityError(f"the text tower ({self.kind}) gives no outputs of inserted tokens")
        n = next(iter(prompts.inserted.values())).shape[-2]
        flat_PKM = self._encode(prompts, classes, "auto", lambda texts: run.inserted(texts).flatten(1))
        return flat_PKM.unflatten(-1, (n, -1))

    def _encode(
        self, prompts: TextPrompts, classes: ClassTokens, chunk: Chunking, run: Callable[[Texts], Tensor]
    ) -> Tensor:
        """What `run` gives (Q,*) of the texts of all classes: (P,K,*)."""
        words = self.words
        placement = place(prompts, classes, words, self.layers)
        layout = build_layout(
            classes,
            placement.assembly,
            Frame(words.start, self.context_length, self.fill, words.pad, words.final),
            chunk=chunk,
            most_tokens=most_tokens(WHOLE_TOKENS, self.device, len(placement.table_PJD), self.width),
            device=self.device,
        )
        return run_layout(layout, partial(self._texts, placement, run), placement.tensors(), chunk)

    def _texts(self, placement: Placement, run: Callable[[Texts], Tensor], part: Chunk, *inputs: Tensor) -> Tensor:
        """The classes of one chunk: (P, K of the chunk, *)."""
        placement = placement.holding(inputs)
        n_classes, n_prompts = len(part.labels), len(placement.table_PJD)
        x_PTD = placement.context(part, self.embed(part.ids_T) * part.fixed_T[:, None])
        x_QTD = x_PTD.expand(n_prompts, -1, -1).unflatten(1, (n_classes, -1)).flatten(0, 1)
        real_KT = (part.ids_T != self.words.pad) | (part.fixed_T == 0)
        length = x_QTD.shape[1]
        texts = Texts(
            x_QTD,
            real_KT.view(n_classes, length).repeat(n_prompts, 1),
            (part.ends_K % length).repeat(n_prompts),
            {layer: tokens.flatten(0, 1) for layer, tokens in placement.deep_of(part).items()},
            len(self.words.start),
            placement.deltas.keyed(1 + part.labels[0]),
            {layer: tokens.flatten(0, 1) for layer, tokens in placement.inserted_of(part).items()},
            Repeats.found(part, length, placement.slots(part)),
        )
        return run(texts).unflatten(0, (n_prompts, n_classes))


@dataclass(frozen=True)
class OwnTransformer:
    """A transformer in blocks, of any mask, run over whole texts.

    Attributes:
        causal: whether a token sees those before it alone.
        hides_pads: whether pads are seen by no one.
        reads: which position is the feature.
    """

    positional_embedding: Tensor
    blocks: Sequence[TextBlock]
    ln_final: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor]
    reads: Literal["first", "last", "end"]
    causal: bool = False
    hides_pads: bool = False

    def __call__(self, texts: Texts) -> Tensor:
        """Pooled features (Q,d)."""
        last, texts, x_QTD, mask = self._before_last(texts)
        return self.project(self.ln_final(self._read(last, texts, x_QTD, mask)[:, 0]))

    def inserted(self, texts: Texts) -> Tensor:
        """Outputs of the inserted tokens (Q,R,d)."""
        last, texts, x_QTD, mask = self._before_last(texts)
        q, k, v = last.qkv(last.norm(x_QTD))
        out_QTD = last.finish(x_QTD, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        stop = texts.first + texts.n_inserted(len(self.blocks))
        return self.project(self.ln_final(out_QTD[:, texts.first : stop]))

    def _before_last(self, texts: Texts) -> tuple[TextBlock, Texts, Tensor, Tensor | None]:
        """The last block with its input (Q,T,D), the texts as long as they are there, and their mask."""
        position_TD = self.positional_embedding[: texts.x_QTD.shape[1]]
        x_QTD = texts.x_QTD + position_TD
        mask = self._mask(texts)
        blocks = adapted(self.blocks, texts.deltas)
        for i, block in enumerate(blocks):
            x_QTD = texts.entering(i, x_QTD)
            if x_QTD.shape[1] > texts.real_QT.shape[1]:
                texts = texts.longer()
                mask = self._mask(texts)
            if i == len(self.blocks) - 1:
                break
            if i == 0 and texts.repeats is not None and 0 not in texts.inserted:
                q, k, v = texts.repeats.qkv(block, x_QTD, position_TD)
            else:
                q, k, v = block.qkv(block.norm(x_QTD))
            x_QTD = block.finish(x_QTD, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        return blocks[-1], texts, x_QTD, mask

    def _read(self, block: TextBlock, texts: Texts, x_QTD: Tensor, mask: Tensor | None) -> Tensor:
        """The last block at the position that is read: (Q,1,D)."""
        at_Q = self._position(texts)
        rows = torch.arange(len(x_QTD), device=x_QTD.device)
        normed = block.norm(x_QTD)
        k, v = block.kv(normed)
        q = block.q(normed[rows, at_Q][:, None])
        if mask is not None:
            mask = mask.expand(len(x_QTD), 1, len(x_QTD[0]), -1)[rows, :, at_Q][:, :, None]
        return block.finish(x_QTD[rows, at_Q][:, None], F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def _position(self, texts: Texts) -> Tensor:
        """Of the text's own token that is read, behind inserted ones where there is no start token."""
        if self.reads == "end":
            return texts.ends_Q
        length = texts.real_QT.shape[1]
        first = 0 if texts.first else length - texts.x_QTD.shape[1]
        return torch.full_like(texts.ends_Q, first if self.reads == "first" else length - 1)

    def _mask(self, texts: Texts) -> Tensor | None:
        """True where a query may see a key, broadcastable to (Q,H,T,T); None: everywhere."""
        length = texts.real_QT.shape[1]
        mask = texts.real_QT[:, None, None] if self.hides_pads else None
        if not self.causal:
            return mask
        triangle = torch.ones(length, length, dtype=torch.bool, device=texts.x_QTD.device).tril()[None, None]
        return triangle if mask is None else triangle & mask
