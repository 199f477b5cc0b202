"""The order of an epoch's images, a pure function of (seed, epoch)."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class Order(NamedTuple):
    """n draws from n images.

    Attributes:
        index_n: positions in the training images.
        again_n: how often the image of a draw came before in this epoch; 0 where each comes once.
    """

    index_n: Tensor
    again_n: Tensor


def epoch_generator(seed: int, epoch: int, of: str = "order") -> torch.Generator:
    """The generator of an epoch's order; neighbouring seeds and epochs share nothing, nor do those of other images."""
    digest = hashlib.blake2b(f"{of} {seed} {epoch}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def shuffled(n_images: int, generator: torch.Generator) -> Order:
    """Each image once."""
    return Order(torch.randperm(n_images, generator=generator), torch.zeros(n_images, dtype=torch.int64))


def cycled(n_images: int, draws: int, generator: torch.Generator) -> Order:
    """So many draws: all images in turn, each turn in a new order, the last one possibly cut short."""
    turns = -(-draws // n_images)
    index = torch.cat([torch.randperm(n_images, generator=generator) for _ in range(turns)])[:draws]
    return Order(index, torch.arange(draws) // n_images)


def balanced(labels_n: Tensor, generator: torch.Generator) -> Order:
    """As many draws as there are images, each class equally often (give or take one), in a mixed order.

    A class's images come in turns, each turn in a new order: of a large class an epoch sees a random part, those
    of a small one come several times, each as often as the others, give or take one. Where all classes are
    equally large every image comes once.

    Args:
        labels_n: (n,) on the CPU; classes without an image have no part in it.
    """
    present_C, images_C = labels_n.unique(return_counts=True)
    own_C = labels_n.argsort(stable=True).split(images_C.tolist())  # each class's positions, ascending
    share, rest = divmod(len(labels_n), len(present_C))
    one_more_C = torch.zeros(len(present_C), dtype=torch.int64)
    one_more_C[torch.randperm(len(present_C), generator=generator)[:rest]] = 1
    parts = []
    for own, draws in zip(own_C, (share + one_more_C).tolist(), strict=True):
        turns = -(-draws // len(own))
        index = torch.cat([own[torch.randperm(len(own), generator=generator)] for _ in range(turns)])[:draws]
        parts.append(Order(index, torch.arange(draws) // len(own)))
    mixed = torch.randperm(len(labels_n), generator=generator)
    index_n, again_n = (torch.cat(kind) for kind in zip(*parts, strict=True))
    return Order(index_n[mixed], again_n[mixed])
