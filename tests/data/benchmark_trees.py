"""Small trees of the benchmark data sets, in the layouts and with the kinds of names in which they are published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

Rows = dict[str, list[tuple[str, int, str]]]


def jpeg(colour: tuple[int, int, int] = (200, 60, 40)) -> bytes:
    content = BytesIO()
    Image.new("RGB", (12, 10), colour).save(content, format="JPEG")
    return content.getvalue()


PIXELS = jpeg()


@dataclass(frozen=True)
class Layout:
    """How a data set with a split file is published.

    Attributes:
        images: folder that the paths of images are relative to, below the root.
        split: the split file, below the root.
        classes: class name -> pattern of its paths; {i} is a number.
    """

    images: str
    split: str
    classes: Mapping[str, str]

    def rows(self) -> Rows:
        """4 train, 2 val and 2 test images a class."""
        parts = {"train": range(1, 5), "val": range(5, 7), "test": range(7, 9)}
        return {
            part: [
                (pattern.format(i=i, part="test" if part == "test" else "train", letters="ab" * i), label, name)
                for label, (name, pattern) in enumerate(self.classes.items())
                for i in numbers
            ]
            for part, numbers in parts.items()
        }


LAYOUTS = {
    "caltech101": Layout(
        "caltech-101/101_ObjectCategories",
        "caltech-101/split_zhou_Caltech101.json",
        {"face": "Faces/image_{i:04}.jpg", "leopard": "Leopards/image_{i:04}.jpg", "ant": "ant/image_{i:04}.jpg"},
    ),
    "oxford_pets": Layout(
        "oxford_pets/images",
        "oxford_pets/split_zhou_OxfordPets.json",
        {"abyssinian": "Abyssinian_{i}.jpg", "american_bulldog": "american_bulldog_{i}.jpg"},
    ),
    "stanford_cars": Layout(
        "stanford_cars",
        "stanford_cars/split_zhou_StanfordCars.json",
        {"2000 AM General Hummer SUV": "cars_{part}/0000{i}.jpg", "2012 Audi TTS Coupe": "cars_{part}/0001{i}.jpg"},
    ),
    "flowers102": Layout(
        "oxford_flowers/jpg",
        "oxford_flowers/split_zhou_OxfordFlowers.json",
        {"pink primrose": "image_0670{i}.jpg", "hard-leaved pocket orchid": "image_0508{i}.jpg"},
    ),
    "food101": Layout(
        "food-101/images",
        "food-101/split_zhou_Food101.json",
        {"apple_pie": "apple_pie/100564{i}.jpg", "baby_back_ribs": "baby_back_ribs/100523{i}.jpg"},
    ),
    "sun397": Layout(
        "sun397/SUN397",
        "sun397/split_zhou_SUN397.json",
        {"abbey": "a/abbey/sun_aa{letters}.jpg", "indoor church": "c/church/indoor/sun_bb{letters}.jpg"},
    ),
    "dtd": Layout(
        "dtd/images",
        "dtd/split_zhou_DescribableTextures.json",
        {"banded": "banded/banded_000{i}.jpg", "polka-dotted": "polka-dotted/polka-dotted_000{i}.jpg"},
    ),
    "eurosat": Layout(
        "eurosat/2750",
        "eurosat/split_zhou_EuroSAT.json",
        {"Annual Crop Land": "AnnualCrop/AnnualCrop_{i}.jpg", "Sea or Lake": "SeaLake/SeaLake_{i}.jpg"},
    ),
    "ucf101": Layout(
        "ucf101/UCF-101-midframes",
        "ucf101/split_zhou_UCF101.json",
        {
            "Apply_Eye_Makeup": "Apply_Eye_Makeup/v_ApplyEyeMakeup_g0{i}_c01.jpg",
            "Yo_Yo": "Yo_Yo/v_YoYo_g0{i}_c01.jpg",
        },
    ),
    "fgvc_aircraft": Layout(
        "fgvc_aircraft/images", "fgvc_aircraft/variants.txt", {"707-320": "102579{i}.jpg", "F-16A/B": "045712{i}.jpg"}
    ),
}


def write_images(folder: Path, paths: Sequence[str]) -> None:
    """Images that look the same; what follows their end makes each a file of its own."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(PIXELS + path.encode())


def write_split(root: Path, name: str, rows: Rows) -> None:
    """The split file, or the official lists of FGVC-Aircraft."""
    file = root / LAYOUTS[name].split
    file.parent.mkdir(parents=True, exist_ok=True)
    if name != "fgvc_aircraft":
        file.write_text(json.dumps(rows), encoding="utf-8")
        return
    file.write_text("".join(f"{name}\n" for name in LAYOUTS[name].classes), encoding="utf-8")
    for part, listed in (rows | {"trainval": [*rows["train"], *rows["val"]]}).items():
        lines = [f"{path.removesuffix('.jpg')} {name}\n" for path, _, name in listed]
        file.with_name(f"images_variant_{part}.txt").write_text("".join(lines), encoding="utf-8")


def write_tree(root: Path, name: str) -> Rows:
    """A small data set of these names below a root; gives its rows."""
    rows = LAYOUTS[name].rows()
    write_split(root, name, rows)
    write_images(root / LAYOUTS[name].images, [path for part in rows.values() for path, _, _ in part])
    return rows
