"""Batches of pictures and captions, composed from the bank in tensor operations.

Shapes: B pictures, 64 x 64 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pretraining.bank import Bank, Plain
from pretraining.captions import GROUND_PATTERNS, Facts, Mix, caption
from vlmprompt.doodles.colours import COLOURS
from vlmprompt.doodles.draws import Draws

SIDE = 64
_NEAR = 120.0  # of 765: a background closer than this to the object's colours is avoided
_OUTSIDE = 3  # pixels that an object may reach beyond the picture


@dataclass(frozen=True)
class Shares:
    """What a batch consists of; the rest are backgrounds with nothing on them."""

    classes: float = 0.72
    scenes: float = 0.25


@dataclass(frozen=True)
class Batch:
    """Pictures and their captions.

    Attributes:
        images: (B,3,64,64) in [0, 1].
        captions: one a picture.
        names: class of each, or None.
    """

    images: Tensor
    captions: Sequence[str]
    names: Sequence[str | None]


class Scenes:
    """The batches of a run; batch i is the same whenever it is asked for."""

    def __init__(
        self, bank: Bank, plain: Plain, seed: int, *, shares: Shares | None = None, mix: Mix | None = None
    ) -> None:
        self._bank, self._plain, self._seed = bank, plain, seed
        self._shares = shares or Shares()
        self._mix = mix or Mix()
        self._names = sorted(bank.class_rows)
        self._palette_P3 = torch.tensor([COLOURS[name] for name in plain.palette], dtype=torch.float32)

    def batch(self, i: int, size: int) -> Batch:
        """Batch number i."""
        draws = Draws("pretraining", self._seed, "batch", i)
        generator = torch.Generator().manual_seed(int.from_bytes(draws.octets(7), "big"))
        rows = self._rows(draws, size)
        patterns = [draws.choice(tuple(GROUND_PATTERNS)) for _ in rows]
        layer_B4HW = self._objects(rows, generator)
        grounds, ground_B3HW = self._grounds(rows, patterns, draws, generator)
        images = self._with_clutter(ground_B3HW, self._plain.clutter, draws, generator)
        images = layer_B4HW[:, :3] + images * (1 - layer_B4HW[:, 3:])
        images = self._lit(self._with_clutter(images, self._plain.cover, draws, generator), generator)
        facts = [self._facts(row, ground) for row, ground in zip(rows, grounds, strict=True)]
        texts = [caption(fact, draws, self._mix) for fact in facts]
        return Batch(images, texts, [fact.name for fact in facts])

    def _rows(self, draws: Draws, size: int) -> list[int]:
        """Rows of the bank; -1 for a background alone."""
        rows = []
        for _ in range(size):
            kind = draws.uniform(0, 1)
            if kind < self._shares.classes:
                rows.append(draws.choice(self._bank.class_rows[draws.choice(self._names)]))
            elif kind < self._shares.classes + self._shares.scenes:
                rows.append(draws.choice(self._bank.scene_rows))
            else:
                rows.append(-1)
        return rows

    def _objects(self, rows: Sequence[int], generator: torch.Generator) -> Tensor:
        """The layers moved within the picture, mirrored where they may be, half of them zoomed a little."""
        index = torch.tensor(rows).clamp(min=0)
        layers = self._bank.rgba[index].float() / 255
        layers[torch.tensor(rows) < 0] = 0
        boxes = self._bank.boxes[index]
        flips = torch.tensor([row >= 0 and self._bank.layers[row].flip for row in rows])
        flips &= torch.rand(len(rows), generator=generator) < 0.5
        shift = self._shift(boxes, generator)
        zoom = torch.where(
            torch.rand(len(rows), generator=generator) < 0.5,
            torch.ones(()),
            0.9 + 0.2 * torch.rand(len(rows), generator=generator),
        )
        theta = torch.zeros(len(rows), 2, 3)
        theta[:, 0, 0] = torch.where(flips, -zoom, zoom)
        theta[:, 1, 1] = zoom
        theta[:, :, 2] = -2 * shift / SIDE
        theta[:, 0, 2] *= torch.where(flips, -1.0, 1.0)
        return F.grid_sample(layers, F.affine_grid(theta, list(layers.shape), align_corners=False), align_corners=False)

    def _shift(self, boxes: Tensor, generator: torch.Generator) -> Tensor:
        """(B,2) whole pixels."""
        room_B2 = torch.minimum(boxes[:, :2], SIDE - boxes[:, 2:]).clamp(min=0) + _OUTSIDE
        unit_B2 = 2 * torch.rand(len(boxes), 2, generator=generator) - 1
        return (unit_B2 * room_B2).round()

    def _grounds(
        self, rows: Sequence[int], patterns: Sequence[str], draws: Draws, generator: torch.Generator
    ) -> tuple[list[tuple[str, str]], Tensor]:
        """Names and pixels of backgrounds whose first colour is unlike the object's."""
        n, palette = len(rows), self._palette_P3
        main_B33 = self._bank.main[torch.tensor(rows).clamp(min=0)]
        weights = torch.tensor([3.0, 4.0, 2.0]) / 3
        gap_BP = ((main_B33[:, :, None] - palette).abs() * weights).sum(-1).amin(1)
        gap_BP[torch.tensor(rows) < 0] = _NEAR
        score_BP = (gap_BP >= _NEAR) + 1e-3 * gap_BP / 765 + torch.rand(n, len(palette), generator=generator)
        first = score_BP.argmax(1)
        second = torch.randint(len(palette), (n,), generator=generator)
        noise = 24 * (torch.rand(2, n, 3, generator=generator) - 0.5)
        a_B3, b_B3 = palette[first] + noise[0], palette[second] + noise[1]
        share_B1 = self._plain.contrast * (0.4 + 0.6 * torch.rand(n, 1, generator=generator))
        mask_B1HW = self._masks(patterns, draws, generator)
        change_B3 = (b_B3 - a_B3) * share_B1
        ground = a_B3[:, :, None, None] + change_B3[:, :, None, None] * mask_B1HW
        names = [(self._plain.palette[int(k)], pattern) for k, pattern in zip(first, patterns, strict=True)]
        return names, (ground / 255).clamp(0, 1)

    def _masks(self, patterns: Sequence[str], draws: Draws, generator: torch.Generator) -> Tensor:
        chosen = [self._bank.patterns[name][draws.integer(0, len(self._bank.patterns[name]) - 1)] for name in patterns]
        return torch.stack(chosen)[:, None].float() / 255

    def _lit(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Brighter or darker, with a cast of colour."""
        light, cast = (2 * torch.rand(len(images), n, 1, 1, generator=generator) - 1 for n in (1, 3))
        return (images * (1 + self._plain.light * light) * (1 + self._plain.cast * cast)).clamp(0, 1)

    def _with_clutter(self, ground: Tensor, chance: float, draws: Draws, generator: torch.Generator) -> Tensor:
        """Small things on some of the pictures, mirrored at random so that few layers make many."""
        n = len(ground)
        rows = torch.randint(len(self._bank.clutter), (n,), generator=generator)
        clutter = self._bank.clutter[rows].float() / 255
        if draws.chance(0.5):
            clutter = clutter.flip(3)
        if draws.chance(0.5):
            clutter = clutter.transpose(2, 3)
        clutter = clutter * (torch.rand(n, 1, 1, 1, generator=generator) < chance)
        return clutter[:, :3] + ground * (1 - clutter[:, 3:])

    def _facts(self, row: int, ground: tuple[str, str]) -> Facts:
        if row < 0:
            return Facts(None, None, (), (), None, ground)
        layer = self._bank.layers[row]
        return Facts(layer.name, layer.group, layer.colours, layer.phrases, layer.scene, ground)
