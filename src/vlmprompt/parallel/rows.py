"""The images of a batch in shares.

Shapes: B images of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmprompt.parallel.group import Group


@dataclass(frozen=True)
class RowShare:
    """The images of a batch that a process computes.

    One that has none computes the first one, with weight 0: all go through the same steps.

    Attributes:
        start, stop: which of the batch.
        whole: B, the images of the batch in all processes.
        weight: the part that their mean has in that of the batch.
    """

    start: int
    stop: int
    whole: int
    weight: float

    @classmethod
    def of(cls, group: Group, whole: int) -> RowShare:
        """This process's share of a batch."""
        own = group.share(whole)
        return cls(own.start, own.stop, whole, len(own) / whole) if own else cls(0, 1, whole, 0.0)

    def of_draws(self, draws_B: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of what was drawn for all images of the batch, what was for these."""
        return {name: drawn[self.start : self.stop] for name, drawn in draws_B.items()}


def shares_of(group: Group, n: int, batch_size: int) -> list[RowShare]:
    """This process's share of each of the batches that n images make, the last of which may be smaller."""
    return [RowShare.of(group, min(batch_size, n - start)) for start in range(0, n, batch_size)]


def places_of(shares: list[RowShare], batch_size: int) -> Tensor:
    """The places of the images of shares among those of all batches, one after the other."""
    return torch.cat([torch.arange(s.start, s.stop) + i * batch_size for i, s in enumerate(shares)])


def whole_batches(group: Group, n: int, batch_size: int) -> range:
    """This process's share of n images where batches stay whole, so that each gives the very bytes of one process."""
    own = group.share(-(-n // batch_size))
    return range(min(own.start * batch_size, n), min(own.stop * batch_size, n))
