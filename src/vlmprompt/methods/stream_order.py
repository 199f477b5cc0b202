"""The order in which a method that adapts at test time sees the images of a split.

Shapes: B images of a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from vlmprompt.data.records import Record
from vlmprompt.methods.build import method_type
from vlmprompt.methods.streaming import TEST_TIME

RULE = "BLAKE2b of (seed, split, image id)"


def stream_order(records: Sequence[Record], split: str, seed: int) -> list[int]:
    """Positions of records in the order of the stream: that of a digest of the seed, the split and the record's id.

    Data sets list their images class by class, which would flatter or ruin a method that adapts. This order is as good
    as random, it does not hang on where the data lie or on how they are listed, and a part of a split has the order
    that it has in the whole.
    """
    keys = [_key(seed, split, record.id) for record in records]
    return sorted(range(len(records)), key=keys.__getitem__)


def back_in_place(order: Sequence[int]) -> Tensor:
    """Where in the stream the image of each place of the split stands: (B,)."""
    return torch.tensor(order, dtype=torch.long).argsort()


def is_streamed(method: str) -> bool:
    """Whether a registered method adapts at test time."""
    return TEST_TIME in method_type(method).capabilities


def _key(seed: int, split: str, name: str) -> bytes:
    return hashlib.blake2b(repr((seed, split, name)).encode(), digest_size=16).digest()
