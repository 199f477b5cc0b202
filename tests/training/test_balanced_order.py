"""Balanced orders against the plain definition: one pass over all images for each class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlmprompt.training.order import balanced, epoch_generator


def plain(labels_n: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions and repetitions, class after class looked up by comparing all labels."""
    present = labels_n.unique()
    share, rest = divmod(len(labels_n), len(present))
    extra = set(torch.randperm(len(present), generator=generator)[:rest].tolist())
    index, again = [], []
    for number, label in enumerate(present):
        own = [i for i, other in enumerate(labels_n.tolist()) if other == int(label)]
        draws = share + (number in extra)
        turns = -(-draws // len(own))
        drawn = [own[j] for _ in range(turns) for j in torch.randperm(len(own), generator=generator).tolist()][:draws]
        index += drawn
        again += [k // len(own) for k in range(draws)]
    mixed = torch.randperm(len(labels_n), generator=generator)
    return torch.tensor(index)[mixed], torch.tensor(again)[mixed]


@pytest.mark.parametrize("labels", [[0, 0, 0, 2, 2, 7, 0, 7, 2, 0, 0], [4], [3, 1, 3, 1], [5, 4, 3, 2, 1, 0, 0]])
def test_orders_are_those_of_the_plain_definition(labels: list[int]) -> None:
    labels_n = torch.tensor(labels)
    for epoch in range(3):
        found = balanced(labels_n, epoch_generator(1, epoch))
        index_n, again_n = plain(labels_n, epoch_generator(1, epoch))
        assert torch.equal(found.index_n, index_n) and torch.equal(found.again_n, again_n)
