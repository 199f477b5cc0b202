"""A sheet of samples: some classes of a data set, a row each, under their names."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vlmprompt.data.images import read_image
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.splits import by_label

SIDE, GAP, CAPTION = 112, 6, 16  # pixels


def sample_sheet(dataset: Dataset, *, classes: int = 10, images: int = 8) -> bytes:
    """A PNG of the first images of some classes, which are spread evenly over the label space.

    Args:
        classes: rows at most.
        images: in a row at most; training images where there are any, else those of another split.

    Raises:
        InputError: an image cannot be read.
    """
    split = next((s for s in ("train", "val", "test") if dataset.splits.get(s)), "test")
    groups = by_label(dataset.split(split))
    rows = [(dataset.class_names[label], groups[label][:images]) for label in _spread(sorted(groups), classes)]
    high, wide = SIDE + CAPTION + GAP, SIDE + GAP
    sheet = Image.new("RGB", (GAP + wide * max(len(records) for _, records in rows), GAP + high * len(rows)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for i, (name, records) in enumerate(rows):
        pen.text((GAP, GAP + i * high), name, fill="black", font=font)
        for k, record in enumerate(records):
            sheet.paste(_thumbnail(record), (GAP + k * wide, GAP + i * high + CAPTION))
    content = io.BytesIO()
    sheet.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _spread(labels: Sequence[int], count: int) -> list[int]:
    """So many of the labels, at equal distances, the first and the last among them."""
    if len(labels) <= count:
        return list(labels)
    return [labels[i * (len(labels) - 1) // (count - 1)] for i in range(count)]


def _thumbnail(record: Record) -> Image.Image:
    """The whole image in a square, its proportions kept; of a strip, at least a line."""
    image = read_image(record)
    short, long = sorted(image.size)
    if round(SIDE * short / long) < 1:
        image = ImageOps.fit(image, (min(image.width, SIDE * short), min(image.height, SIDE * short)))
    return ImageOps.pad(image, (SIDE, SIDE), color="#eeeeee")
