"""Suites that misbehave, a method that sees its own images, and data in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.data.records import Dataset, Record
from vlmprompt.evaluation.classified import CALIBRATION
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue
from vlmprompt.methods.coop import CoOp
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.results.rows import ResultRow

SOURCE = Source("made-up", "made-up", "1.0")


@dataclass(frozen=True)
class Patch:
    """A one-colour image that counts how often it is read."""

    colour: tuple[int, int, int]
    reads: list[int]

    def load(self) -> Image.Image:
        self.reads.append(1)
        return Image.new("RGB", (40, 36), self.colour)


def patches(n_classes: int, per_class: int, reads: list[int], *, name: str = "patches") -> Dataset:
    """A test split of coloured patches."""
    records = [
        Record(f"{label}/{i}", label, Patch((label * 30 % 256, i * 40 % 256, 90), reads))
        for label in range(n_classes)
        for i in range(per_class)
    ]
    names = tuple(f"thing {'abcdefghij'[label]}" for label in range(n_classes))
    return Dataset(name, f"made-up:{name}", names, {"test": tuple(records)})


class Seeing(CoOp):
    """CoOp that says it trains through the image tower, as Bloom does."""

    def image_needs(self) -> ImageNeeds:
        return ImageNeeds(grad=True)


class Scripted:
    """A suite whose cells are given by a test: name -> what computes it."""

    name = "scripted"
    version = 1
    cells_by_name: ClassVar[dict[str, Callable[[], Sequence[MetricValue]]]] = {}
    runs: ClassVar[list[str]] = []

    def cells(self, context: Context) -> Sequence[Cell]:
        def counted(name: str) -> Callable[[], Sequence[MetricValue]]:
            def compute() -> Sequence[MetricValue]:
                self.runs.append(f"{context.subject.config.method} {name}")
                return self.cells_by_name[name]()

            return compute

        return [Cell(name, ("top1",), counted(name)) for name in self.cells_by_name]


class Broken:
    """A suite that cannot even list its cells."""

    name = "broken"
    version = 1

    def cells(self, context: Context) -> Sequence[Cell]:
        raise KeyError("colour")


def accuracies(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows without those that say how far probabilities can be trusted."""
    return [row for row in rows if row.metric not in CALIBRATION]


def register_suites() -> None:
    """Make both known; `withdraw_suites` takes them back."""
    for name, cls in (("scripted", "Scripted"), ("broken", "Broken")):
        host().suites.register(name, target=f"tests.evaluation.material:{cls}", source=SOURCE)


def withdraw_suites() -> None:
    """Undo `register_suites`."""
    host().suites.withdraw(SOURCE)


def gives(value: float, **more: Any) -> Callable[[], Sequence[MetricValue]]:
    """A computation with one outcome."""
    return lambda: [MetricValue("top1", value, 10, **more)]


def fails(error: BaseException) -> Callable[[], Sequence[MetricValue]]:
    """A computation that raises."""

    def compute() -> Sequence[MetricValue]:
        raise error

    return compute


def slow_logits(method: CoOp, dataset: Dataset) -> Tensor:
    """What a method says of a test split, one image at a time and straight from the pixels."""
    transform = method.backbone.transform(train=False)
    with torch.no_grad():
        rows = [method(transform(record.image.load())[None]).logits for record in dataset.splits["test"]]  # type: ignore[union-attr]
    return torch.cat(rows)
