"""A backbone that is nobody's but this file's, brought as a plugin would bring it: by the public names alone.

Its text tower is a recurrent network over characters, its image tower a convolution with a mean pool.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlmprompt.api import Backbone, Identity, MapEngine, PreprocessConfig, TextEngine, Texts, WholeTower, Words

LETTERS = "abcdefghijklmnopqrstuvwxyz ."


class Characters(nn.Module):
    """Texts of lower-case letters, read after the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS) + 1, 16)
        self.network = nn.GRU(16, 12, batch_first=True)

    def forward(self, text: str) -> Tensor:
        """The plain way, one text at a time: (12,)."""
        states, _ = self.network(self.letters(torch.tensor([ids(text)])))
        return states[0, -1]


class Picture(nn.Module):
    """A map of 4 x 4 positions, its mean through a linear head; it is a `MapTower` itself."""

    kind, width, joint_dim, grid, projection = "convolution, mean pool", 12, 12, (4, 4), None

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 8, stride=8)
        self.head = nn.Linear(8, 12)

    def forward(self, images: Tensor) -> Tensor:
        """The plain way: (B,12)."""
        return self.head(self.convolution(images).relu().mean(dim=(2, 3)))

    def map(self, images: Tensor) -> Tensor:
        """See `MapTower.map`."""
        return self.convolution(images).relu().flatten(2).transpose(1, 2)

    def read(self, map_BNc: Tensor, local: str | None) -> tuple[Tensor, Tensor | None]:
        """See `MapTower.read`."""
        return self.head(map_BNc.mean(dim=1)), None if local is None else self.head(map_BNc)


class Own(nn.Module):
    """Both towers, random."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.visual = Characters(), Picture()


def ids(text: str) -> list[int]:
    """Numbers of letters; 0 is for pads."""
    return [1 + LETTERS.index(letter) for letter in text.lower() if letter in LETTERS]


def model() -> Own:
    """The same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Own().eval().requires_grad_(False)


class OwnLoader:
    """Loads `own-towers`."""

    def load(self, spec: str, *, device: str, precision: Any, **more: Any) -> Backbone:
        """See docs/plugins.md."""
        own = model().to(device)

        def run(texts: Texts) -> Tensor:
            states_QTD, _ = own.text.network(texts.x_QTD)
            return states_QTD[torch.arange(len(states_QTD)), texts.ends_Q]

        tower = WholeTower(
            words=Words(ids, start=(), end=()),
            embedding=own.text.letters,
            run=run,
            width=16,
            joint_dim=12,
            context_length=100,
            device=torch.device(device),
            kind="recurrent, read at the last letter",
        )
        statistics = (0.5, 0.5, 0.5)
        return Backbone(
            own,
            TextEngine(tower),
            MapEngine(own.visual),
            identity=Identity(spec),
            preprocess=PreprocessConfig(size=32, mean=statistics, std=statistics),
            scale=10.0,
        )
