"""Readers, suites, providers and backbones that each break one rule; `NAMES` says how they are registered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, TextPrompts, VisualPrompts
from vlmprompt.data.records import Dataset, Record
from vlmprompt.describe.provider import KEY_VARIABLE, ProviderConfig, Question, Reply
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue
from vlmprompt.testing import tiny_backbone


# -- readers ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Square:
    """An image of one colour."""

    colour: int
    mode: str = "RGB"

    def load(self) -> Image.Image:
        return Image.new("RGB", (8, 8), (self.colour, 0, 0)).convert(self.mode)


class Reader:
    """Two classes, two training pictures and a test picture of each; subclasses spoil it."""

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        train = tuple(Record(f"train/{i}", i % 2, Square(i)) for i in range(4))
        test = tuple(Record(f"test/{i}", i % 2, Square(9 + i)) for i in range(2))
        return self.spoilt(Dataset("squares", "squares", ("red", "dark"), {"train": train, "test": test}), split_seed)

    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return dataset


class Shuffled(Reader):
    reads = 0

    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        Shuffled.reads += 1
        train = dataset.splits["train"]
        return replace(dataset, splits={"train": train[self.reads % 2 :] + train[: self.reads % 2]})


class Random(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        torch.rand(1)
        return dataset


class Training(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, splits={"training": dataset.splits["train"]})


class OffByOne(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, splits={"test": tuple(replace(r, label=r.label + 1) for r in dataset.splits["test"])})


class SameIds(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, splits={"test": tuple(replace(r, id="it") for r in dataset.splits["test"])})


class Overlap(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, splits={"train": dataset.splits["train"], "test": dataset.splits["train"][:2]})


class Placeless(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, template="a photo")


class Grey(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, splits={"test": (Record("a", 0, Square(1, "L")), Record("b", 1, Square(2)))})


class Closure:
    """An image that holds a function."""

    def __init__(self, colour: int) -> None:
        self.load = lambda: Square(colour).load()


class Closures(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        return replace(dataset, splits={"test": (Record("a", 0, Closure(1)), Record("b", 1, Closure(2)))})


class Unsaid(Reader):
    def spoilt(self, dataset: Dataset, seed: int) -> Dataset:
        own = dataset.splits["train"]
        return replace(dataset, splits={"train": own[seed:] + own[:seed]})


class Crashing(Reader):
    def load(self, argument: str, **reading: Any) -> Dataset:
        return {"here": super().load(argument, **reading)}[argument]


# -- suites ----------------------------------------------------------------------------------------------
class Suite:
    """One number."""

    name = "suite"
    version = 1
    value = 0.5

    def cells(self, context: Context) -> Sequence[Cell]:
        return [Cell("test", ("top1",), self.measure)]

    def measure(self) -> Sequence[MetricValue]:
        return [MetricValue("top1", self.value, 8)]


class Misnamed(Suite):
    """Has another name."""

    name = "other"


class Twins(Suite):
    """Two cells of one name."""

    name = "twins"

    def cells(self, context: Context) -> Sequence[Cell]:
        return [*super().cells(context), *super().cells(context)]


class Empty(Suite):
    """A mean over nothing."""

    name = "empty"
    value = float("nan")


class Growing(Suite):
    """Counts how often it was asked."""

    name = "growing"
    times: ClassVar[int] = 0

    def measure(self) -> Sequence[MetricValue]:
        Growing.times += 1
        return [MetricValue("top1", 1 / self.times, 8)]


# -- providers -------------------------------------------------------------------------------------------
class Undescribed(ProviderConfig):
    """Says nothing of its option."""

    colour: str = "red"


class Addressed(ProviderConfig):
    """Has a server."""

    base_url: str = Field("http://127.0.0.1:9/v1", description="address of the server")


class Provider:
    """Knows one answer."""

    online: ClassVar[bool] = False
    template = None
    model: str | None = "made-up"
    source = "nowhere"

    def __init__(self, config: ProviderConfig) -> None:
        self.notes: list[str] = []

    def identity(self) -> Mapping[str, Any]:
        return {"model": self.model}

    async def ask(self, question: Question) -> Reply:
        return Reply("- red fur")

    async def close(self) -> None:
        return None


class Nameless(Provider):
    """Does not say who answers."""

    model = None


class Talkative(Provider):
    """Says its key."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self.model = f"made-up with {os.environ[KEY_VARIABLE]}"


class Crash(Provider):
    """Fails in a way of its own."""

    async def ask(self, question: Question) -> Reply:
        raise ValueError("no ink")


class Deaf(Provider):
    """Answers without its server."""


# -- backbones -------------------------------------------------------------------------------------------
class Tiny:
    """The tiny CLIP; subclasses spoil it."""

    def load(self, spec: str, **how: Any) -> Backbone:
        return self.spoilt(tiny_backbone())

    def spoilt(self, backbone: Backbone) -> Backbone:
        return backbone


class Seedless(Tiny):
    loads = 0

    def spoilt(self, backbone: Backbone) -> Backbone:
        Seedless.loads += 1
        next(backbone.model.parameters()).data += self.loads
        return backbone


class Warm(Tiny):
    def spoilt(self, backbone: Backbone) -> Backbone:
        backbone.model.requires_grad_(True)
        return backbone


class Flat(Tiny):
    def spoilt(self, backbone: Backbone) -> Backbone:
        backbone.scale = 0.0
        return backbone


class Wide(Tiny):
    def spoilt(self, backbone: Backbone) -> Backbone:
        transform = backbone.transform
        backbone.transform = lambda *, train: lambda image: transform(train=train)(image)[..., :-1]  # type: ignore[method-assign]
        return backbone


class Encoding(Tiny):
    """Changes the features of images."""

    def spoilt(self, backbone: Backbone) -> Backbone:
        encode = backbone.encode_image

        def changed(images: Tensor, needs: ImageNeeds | None = None, *, prompts: VisualPrompts | None = None) -> Any:
            return self.changed(encode(images, needs, prompts=self.prompts(prompts)))

        backbone.encode_image = changed  # type: ignore[method-assign]
        return backbone

    def prompts(self, prompts: VisualPrompts | None) -> VisualPrompts | None:
        return prompts

    def changed(self, features: ImageFeatures) -> ImageFeatures:
        return features


class DeafTower(Encoding):
    def changed(self, features: ImageFeatures) -> ImageFeatures:
        return replace(features, global_Bd=features.global_Bd[:1].expand_as(features.global_Bd))


class Batched(Encoding):
    def changed(self, features: ImageFeatures) -> ImageFeatures:
        return replace(features, global_Bd=features.global_Bd + features.global_Bd.mean(dim=0))


class Promptless(Encoding):
    def prompts(self, prompts: VisualPrompts | None) -> VisualPrompts | None:
        return None


class Wordless(Tiny):
    def spoilt(self, backbone: Backbone) -> Backbone:
        encode = backbone.text.encode

        def halved(prompts: TextPrompts, classes: Any) -> Tensor:
            return encode(replace(prompts, ctx=prompts.ctx / 2), classes)

        backbone.text.encode = halved  # type: ignore[method-assign]
        return backbone


class Miscounted(Encoding):
    def changed(self, features: ImageFeatures) -> ImageFeatures:
        return features if features.local_BNc is None else replace(features, local_BNc=features.local_BNc[:, 1:])


NAMES: dict[str, dict[str, tuple[str, str | None]]] = {
    "datasets": {
        name: (name.title().replace("-", ""), None)
        for name in ("shuffled", "random", "training", "off-by-one", "same-ids", "overlap", "placeless", "grey")
    }
    | {name: (name.title(), None) for name in ("closures", "unsaid", "crashing")},
    "suites": {name: (name.title(), None) for name in ("misnamed", "twins", "empty", "growing")},
    "llm_providers": {
        "nameless": ("Nameless", None),
        "undescribed": ("Provider", "Undescribed"),
        "talkative": ("Talkative", None),
        "crash": ("Crash", None),
        "deaf": ("Deaf", "Addressed"),
    },
    "backbones": {
        f"acme-{name.lower()}": (cls, None)
        for name, cls in {
            **{cls: cls for cls in ("Tiny", "Seedless", "Warm", "Flat", "Wide", "Batched", "Promptless", "Wordless")},
            "deaf": "DeafTower",
            "Miscounted": "Miscounted",
        }.items()
    },
}
