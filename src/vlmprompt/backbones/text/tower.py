"""What a text tower is to the engine: small protocols, which every kind of tower meets in its own way.

Shapes: * any leading dimensions, T tokens, P prompts, K classes, D width, H heads, h = D/H, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.text.frozen import FrozenBlock
from vlmprompt.backbones.types import ClassTokens, TextPrompts

Chunking = int | Literal["auto"]


@dataclass(frozen=True)
class Words:
    """How a text tower reads texts.

    Attributes:
        ids: token ids of a text, cleaned as the tower's own tokenizer does it, without start, end and padding.
        start: ids in front of every text; may be none.
        end: ids behind every text; may be none.
        pad: id that fills a text up to the context length.
        final: ids at the very end of the context, behind the pads; nearly always none.
        longest: most tokens of a text that the tokenizer makes, start, end and final ids included; None: any.
        known: ids that the tower was trained on; None: as good as all.
        token: what an id stands for, as people read it: a whole word as it is, a piece with "-" where the word goes on
            ("un-", "-ing"); None: nobody knows.
    """

    ids: Callable[[str], list[int]]
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int = 0
    final: tuple[int, ...] = ()
    longest: int | None = None
    known: frozenset[int] | None = None
    token: Callable[[int], str] | None = None


def ids_tensor(ids: Sequence[int], device: torch.device) -> Tensor:
    """Numbers of tokens, prompts or classes, also none, as a tensor that is not to be changed: it is made once."""
    return _ids_tensor(tuple(ids), device)


@lru_cache(maxsize=256)
@outliving()
def _ids_tensor(ids: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(ids, dtype=torch.long, device=device)


class TextTower(Protocol):
    """A frozen text tower.

    Attributes:
        kind: what it is, for people, such as "causal, read at the end token".
        words: its tokens.
        width: D, width of token embeddings.
        layers: transformer layers that deep prompts can name.
        joint_dim: d.
        context_length: longest text, start and end included.
        device: where it lives.
    """

    @property
    def kind(self) -> str: ...
    @property
    def words(self) -> Words: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def joint_dim(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def device(self) -> torch.device: ...

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids, without position: (*) -> (*,D)."""

    def encode(self, prompts: TextPrompts, classes: ClassTokens, chunk: Chunking) -> Tensor:
        """Every class under every prompt, not normalised: (P,K,d).

        Args:
            prompts: of scope "shared" or "class", with one class position; see `TextPrompts`.
            chunk: see `TextEngine.encode`.
        """


class TextBlock(Protocol):
    """A residual attention block in pieces, as a tower needs them whose texts share work."""

    def frozen(self) -> FrozenBlock | None:
        """The whole block for inputs that have gradients and weights that have none; None: it runs in pieces alone."""

    def norm(self, x: Tensor) -> Tensor:
        """What attention reads: (*,T,D)."""

    def qkv(self, normed: Tensor) -> Tensor:
        """Queries, keys and values: (*,T,D) -> (3,*,H,T,h)."""

    def q(self, normed: Tensor) -> Tensor:
        """Queries only: (*,T,D) -> (*,H,T,h)."""

    def kv(self, normed: Tensor) -> Tensor:
        """Keys and values only: (*,T,D) -> (2,*,H,T,h)."""

    def finish(self, x: Tensor, heads_out: Tensor) -> Tensor:
        """Both residual branches after attention: x (*,T,D) and attended heads (*,H,T,h) -> (*,T,D)."""
