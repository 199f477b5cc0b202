"""What plugins are tried on: class names, descriptions, pictures, a tiny data set in memory, tiny towers.

Shapes: B images, K classes, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.backbones.openclip.miniature import tiny_backbone, tiny_clip
from vlmprompt.backbones.precision import Precision
from vlmprompt.data.records import Dataset, Record
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.describe.lines import Line, dump_lines
from vlmprompt.plugins import host
from vlmprompt.registry import Source

# With an underscore, a comma and names of several tokens, as data sets have them.
NAMES = ("red fox", "green_frog", "blue whale, calf", "wolf")
OTHER_NAMES = ("owl", "sea_horse", "yak, bull")
THIRD_NAMES = ("jay", "water_gecko")
PHRASES = {
    "red fox": ("a bushy tail", "orange fur"),
    "green_frog": ("wet skin", "bulging eyes", "long legs"),
    "blue whale, calf": ("a blowhole",),
    "wolf": ("pointed ears", "a long snout"),
    "owl": ("round eyes", "soft feathers"),
    "sea_horse": ("a curled tail",),
    "yak, bull": ("long hair", "two horns"),
    "jay": ("blue feathers",),
    "water_gecko": ("toes that stick", "a thick tail"),
}
COLOURS = ((200, 60, 40), (50, 190, 70), (40, 60, 200), (120, 120, 120))
LABELS_B = torch.arange(len(NAMES))
DATA = "conformance-photos"
SOURCE = Source("conformance", "vlmprompt", "tests")


def phrases(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Descriptions of each class."""
    return tuple(PHRASES.get(name, ("some part",)) for name in names)


@cache
def towers(precision: Precision = "fp32") -> Backbone:
    """The tiny ViT CLIP that methods are tried on, shared by all of them."""
    return tiny_backbone(precision=precision)


@cache
def pristine_digest() -> str:
    """The digest of the tiny towers as nobody has touched them."""
    return tensors_digest(tiny_clip().state_dict())


def images(sides: tuple[int, int], count: int = len(NAMES), seed: int = 0) -> Tensor:
    """(B,3,H,W): noise around a colour of each class in turn, about as a transform gives it."""
    noise = torch.randn(count, 3, *sides, generator=torch.Generator().manual_seed(seed))
    colours = torch.tensor(COLOURS)[torch.arange(count) % len(COLOURS)]
    return noise / 2 + (colours / 127.5 - 1)[:, :, None, None]


def draw(label: int, seed: int) -> Image.Image:
    """A picture of 40 x 36 pixels: a rectangle in the colour of a class, on noise."""
    generator = torch.Generator().manual_seed(1000 * label + seed)
    pixels = torch.randint(256, (36, 40, 3), generator=generator, dtype=torch.uint8)
    top, left = (int(torch.randint(12, (), generator=generator)) for _ in range(2))
    pixels[top : top + 24, left : left + 28] = torch.tensor(COLOURS[label % len(COLOURS)], dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def draw_photos(folder: Path, splits: Mapping[str, int], names: Sequence[str] = NAMES) -> Path:
    """Class folders of drawn pictures, `splits` giving their number for each class; readable as `folder:`."""
    for first, (split, count) in enumerate(splits.items()):
        for label, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                draw(label, 100 * first + i).save(folder / split / name / f"{i}.png")
    return folder


@dataclass(frozen=True)
class Drawn:
    """A picture that is drawn when it is read (an `ImageSource`)."""

    label: int
    seed: int

    def load(self) -> Image.Image:
        """The RGB image."""
        return draw(self.label, self.seed)


class TinyPhotos:
    """Four classes of drawn pictures: three for training, one for validation and two test pictures of each."""

    counts = (("train", 3), ("val", 1), ("test", 2))

    def load(
        self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int | None
    ) -> Dataset:
        """See `data.load.DatasetReader`; there is nothing to choose."""
        splits = {
            split: tuple(
                Record(f"{split}/{label}/{i}", label, Drawn(label, 100 * first + i))
                for label in range(len(NAMES))
                for i in range(count)
            )
            for first, (split, count) in enumerate(self.counts)
        }
        return Dataset(DATA, DATA, NAMES, splits)


@contextmanager
def tiny_data() -> Iterator[str]:
    """Makes `TinyPhotos` known for a while; gives its spec."""
    readers = host().datasets
    if DATA in readers.names():
        yield DATA
        return
    readers.register(DATA, target=f"{__name__}:TinyPhotos", source=SOURCE)
    try:
        yield DATA
    finally:
        readers.withdraw(SOURCE)


def description_file() -> DescriptionFile:
    """Descriptions of the classes of `TinyPhotos`."""
    rows = [Line(class_index=label, name=name, text=text) for label, name in enumerate(NAMES) for text in PHRASES[name]]
    return DescriptionFile(Path("descriptions.jsonl"), dump_lines(rows), tuple(rows))
