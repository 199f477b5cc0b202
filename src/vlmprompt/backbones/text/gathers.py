"""Where attention in windows reads, and where its gradients go: one table of rows each, made once a label space.

Queries, keys and values come out of one linear map, token by token. A product of many heads wants them head by head,
and window by window, with the prefix before each window. Both ways are a copy of rows of h numbers, so that a single
`index_select` by a table made in advance does all of it, and another one brings back all gradients.

The prefix of each prompt stands in the same tensor as the suffixes, before them; its queries have windows of their own.

Shapes: P prompts, H heads, h their width, M prefix tokens of a prompt, T suffix tokens, R token rows (P*M of prefixes,
then P*T of suffixes, or T where all prompts share them), n windows of a head (those of suffixes, then those of the
prefix), U query slots and X key slots of a window, Q queries of all prompts, B = P*H*n, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.backbones.text.windows import Windows


@dataclass(frozen=True)
class Gathers:
    """Tables for all prompts and heads of a chunk of classes.

    Attributes:
        read: rows of the projected tokens: queries (B,U), then keys (B,X), then values (B,X).
        answer: rows of what has been attended to, (B,U): for each query, its heads.
        asked: the way back: for each of (B,U), the head of the query that stands there; any where none does.
        back: rows of the gradients of `read`, with sums over windows of those of prefix keys (P,H,M) and values behind
            them: for each projected row, the gradient that it gets.
        bias_nUX: 0 where a query may see a key, -inf elsewhere.
        batch: B.
        heads: H.
        n_prefix: M.
        n_learned: token rows that get gradients.
    """

    read: Tensor
    answer: Tensor
    asked: Tensor
    back: Tensor
    bias_nUX: Tensor
    batch: int
    heads: int
    n_prefix: int
    n_learned: int

    @property
    def n_windows(self) -> int:
        """n."""
        return len(self.bias_nUX)

    @property
    def n_queries(self) -> int:
        """Rows of all query slots."""
        return self.batch * self.bias_nUX.shape[1]


@dataclass(frozen=True)
class Shape:
    """What the tables of a chunk depend on, besides its windows.

    Attributes:
        shared: the suffixes of all prompts are the same rows, without a gradient.
        ends: the last token of each class asks, and nobody else; queries are projected apart, behind keys and values.
    """

    prompts: int
    heads: int
    n_prefix: int
    shared: bool = False
    ends: bool = False


def gathers(windows: Windows, shape: Shape) -> Gathers:
    """The tables of the windows of a chunk's suffixes."""
    made = _Making(windows, shape)
    return Gathers(
        read=made.read(),
        answer=made.answer_QH.flatten(),
        asked=made.asked(),
        back=made.back(),
        bias_nUX=made.bias(),
        batch=made.heads * made.n,
        heads=shape.heads,
        n_prefix=shape.n_prefix,
        n_learned=shape.prompts * shape.n_prefix + (0 if shape.shared else shape.prompts * made.n_tokens),
    )


class _Making:
    def __init__(self, windows: Windows, shape: Shape) -> None:
        self.windows, self.shape = windows, shape
        self.device = windows.slot_T.device
        n_own, self.U, self.W = windows.bias_nUW.shape
        # Behind the slots of tokens, each window has one that holds nothing: all that empty queries see, so that they
        # are finite and send no gradient to a token.
        self.X = shape.n_prefix + self.W + 1
        self.n_own = n_own
        # Every U tokens of the prefix ask in a window of their own (rounded up); with `ends` none of them asks.
        self.n = n_own + (0 if shape.ends else -(-shape.n_prefix // self.U))
        self.heads = shape.prompts * shape.heads
        self.n_tokens = len(windows.slot_T)
        self.n_rows = shape.prompts * shape.n_prefix + (1 if shape.shared else shape.prompts) * self.n_tokens
        # Token rows lie as the tower holds them: the prefixes of all prompts, then the suffixes of each prompt, or once
        # for all of them where they are shared (then every prompt has the same rows in `own_PT`).
        self.prefix_PM = self._count(shape.prompts, shape.n_prefix)
        first_P = self.prefix_PM.numel() + (0 if shape.shared else self.n_tokens) * self._count(shape.prompts)
        self.own_PT = first_P[:, None] + self._count(self.n_tokens)
        self.answer_QH = self._answer()

    def _count(self, *shape: int) -> Tensor:
        """0, 1, 2, ... in this shape."""
        return torch.arange(int(torch.Size(shape).numel()), device=self.device).view(shape)

    def _answer(self) -> Tensor:
        """Row of (B,U) of each query: those of prefixes, then those of suffixes."""
        # In the order of the token rows, prefixes first, so that the result can be added to the residual as it is.
        own_Q = self._placed(self.windows.answer_Q, self.U, self.U)
        prefix_M = self.n_own * self.U + self._count(0 if self.shape.ends else self.shape.n_prefix)
        return torch.cat([self._by_row(prefix_M, self.n * self.U), self._by_row(own_Q, self.n * self.U)])

    def _placed(self, slot: Tensor, width: int, stride: int, first: int = 0) -> Tensor:
        """Slots of windows of some width as places in windows of another."""
        # slot // width is the window, slot % width the place in it.
        return slot // width * stride + first + slot % width

    def _by_row(self, place_N: Tensor, stride: int) -> Tensor:
        """Places in one head as rows of all, token by token: (P*N,H)."""
        head_PH = self._count(self.shape.prompts, self.shape.heads)
        # (P,N,H): heads vary fastest, because the heads of one token are side by side in its row of width D.
        return (head_PH[:, None] * stride + place_N[:, None]).flatten(0, 1)

    def _projected(self, part: int, row: Tensor) -> Tensor:
        """Projected rows (P,H,*) of one of queries, keys and values (0, 1, 2) of token rows (P,*)."""
        # A projected token is n_parts * H rows of h numbers: part by part, and head by head in each. With `ends` every
        # token is projected to keys and values alone, which are then parts 0 and 1.
        n_parts, part = (2, part - 1) if self.shape.ends else (3, part)
        head_H = self._count(self.shape.heads).view(1, -1, *[1] * (row.dim() - 1))
        return (row[:, None] * n_parts + part) * self.shape.heads + head_H

    def read(self) -> Tensor:
        """See `Gathers`."""
        key_PnX = self._keys()
        if self.shape.ends:
            # The K queries of each prompt are behind the 2 * H rows of every token; see `_Some` in `frozen`.
            n_asking = len(self.windows.answer_Q)
            asking_PnU = self._count(self.shape.prompts)[:, None] * n_asking + self.windows.query_S
            head_H = self._count(self.shape.heads)[None, :, None]
            query = self.n_rows * 2 * self.shape.heads + asking_PnU[:, None] * self.shape.heads + head_H
        else:
            query = self._projected(0, self._queries())
        return torch.cat(
            [query.flatten(), self._projected(1, key_PnX).flatten(), self._projected(2, key_PnX).flatten()]
        )

    def _keys(self) -> Tensor:
        """Token rows of keys (P,n,X); any in slots that hold nothing."""
        prompts, n_prefix = self.prefix_PM.shape
        # Row 0 where nothing is written below: some row has to be read, and `bias` hides it from every real query.
        key_PnX = self._count(1).expand(prompts, self.n, self.X).clone()
        key_PnX[:, :, :n_prefix] = self.prefix_PM[:, None]
        key_PnX[:, : self.n_own, n_prefix:-1] = self.own_PT[:, self.windows.token_S].unflatten(1, (self.n_own, self.W))
        return key_PnX

    def _queries(self) -> Tensor:
        """Token rows of queries (P,n*U); any in slots that hold none."""
        own_PS = self.own_PT[:, self.windows.query_S]
        n_slots = (self.n - self.n_own) * self.U
        # The last window of the prefix may have slots behind its last token: these repeat it, and `answer` skips them.
        prefix_S = self._count(n_slots).clamp_max(max(self.shape.n_prefix - 1, 0))
        return torch.cat([own_PS, self.prefix_PM[:, prefix_S]], dim=1)

    def bias(self) -> Tensor:
        """See `Gathers`."""
        n_prefix, own_nUW = self.shape.n_prefix, self.windows.bias_nUW
        bias_nUX = own_nUW.new_full((self.n, self.U, self.X), float("-inf"))
        asked = self.windows.asked_S
        asked_nU = own_nUW.new_ones(own_nUW.shape[:2]) if asked is None else asked.view(own_nUW.shape[:2])
        own = bias_nUX[: self.n_own]
        own[..., :n_prefix] = 0  # a suffix sees all of its prefix
        own[..., n_prefix:-1] = own_nUW
        # `Windows` lets empty query slots see everything; here they must see nothing, as the backward pass does not set
        # their gradients to zero.
        own.masked_fill_(asked_nU[..., None] == 0, float("-inf"))
        # One row for each slot of the prefix's windows: causal, and nothing in slots behind its last token.
        of_prefix = bias_nUX[self.n_own :].flatten(0, 1)
        place_S, key_M = self._count(len(of_prefix)), self._count(n_prefix)
        of_prefix[:, :n_prefix].masked_fill_((key_M <= place_S[:, None]) & (place_S < n_prefix)[:, None], 0)
        # Rows that would be -inf throughout see the slot that holds nothing: their softmax would be 0 / 0.
        bias_nUX[..., -1].masked_fill_(bias_nUX.amax(dim=2) == float("-inf"), 0)
        return bias_nUX

    def asked(self) -> Tensor:
        """See `Gathers`."""
        # The inverse of `answer`. A slot without a query stays 0: the gradient that it so gets reaches no token, as
        # it saw only the slot that holds nothing.
        answer_A = self.answer_QH.flatten()
        return answer_A.new_zeros(self.heads * self.n * self.U).index_copy(0, answer_A, self._count(len(answer_A)))

    def back(self) -> Tensor:
        """See `Gathers`."""
        # Gradients lie in the order of `read`: queries, from `first` on keys, then values, then sums of prefixes.
        n_prefix, keys = self.shape.n_prefix, self.heads * self.n * self.X
        first = self.heads * self.n * self.U
        of_prefix = self._by_row(self._count(n_prefix), n_prefix) + first + 2 * keys
        kv = [torch.stack([of_prefix, of_prefix + self.heads * n_prefix], dim=1)]
        if not self.shape.shared:  # shared suffixes are constants, so that nothing is brought back to them
            slot_T = self._placed(self.windows.slot_T, self.W, self.X, n_prefix)
            own = self._by_row(slot_T, self.n * self.X) + first
            kv.append(torch.stack([own, own + keys], dim=1))
        kv_R2H = torch.cat(kv)
        # In the order of the projection: with `ends` keys and values of all tokens, then the queries; otherwise each
        # token's query, key and value together.
        if self.shape.ends:
            return torch.cat([kv_R2H.flatten(), self.answer_QH.flatten()])
        return torch.cat([self.answer_QH[: len(kv_R2H), None], kv_R2H], dim=1).flatten()
