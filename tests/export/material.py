"""Runs to be exported, and pictures of every make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from open_clip import SimpleTokenizer
from PIL import Image
from sklearn.datasets import load_sample_images

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.testing import tiny_clip

TURNED = 6  # of EXIF orientations: by a quarter


class SmallLoader:
    """A ViT CLIP of one layer; the same weights at every call."""

    def load(self, spec: str, *, device: str, precision: Any, **more: Any) -> Backbone:
        model = tiny_clip(vision_layers=1, text_layers=1).to(device)
        return Backbone.from_model(model, SimpleTokenizer(), name=spec, precision=precision)


def photographs(folder: Path) -> list[Path]:
    """Two photographs (of scikit-learn, 640 x 427): whole, cut, turned by EXIF data, with holes, grey, for print."""
    temple, flower = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    exif = Image.Exif()
    exif[0x0112] = TURNED
    holes = flower.copy()
    holes.putalpha(Image.fromarray((np.indices((427, 640)).sum(axis=0) % 256).astype(np.uint8)))
    content = {
        "temple.jpg": temple,
        "flower.png": flower,
        "turned.jpg": temple.crop((13, 0, 400, 300)),
        "holes.png": holes,
        "palette.png": flower.quantize(40),
        "grey.png": temple.convert("L"),
        "grey_holes.png": holes.convert("LA"),
        "for_print.jpg": temple.convert("CMYK"),
        "two_levels.png": flower.convert("1"),
        "tall.png": flower.crop((100, 0, 131, 400)),
        "tiny.png": temple.resize((9, 7)),
    }
    for name, image in content.items():
        image.save(folder / name, **({"exif": exif} if name == "turned.jpg" else {}))
    return [folder / name for name in content]
