"""The pictures that an export is tried on before it is kept.

Shapes: B images, H x W pixels of a tower's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data.files import files_below, is_image
from vlmprompt.data.pictures import picture_tensor
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress
from vlmprompt.training.runs import Run

COUNT = 6
LEAST = 3  # what a batch of the check holds


@dataclass(frozen=True)
class Trial:
    """Pictures as a tower reads them, and where they are from.

    Attributes:
        pixels_B3HW: at least three; the same again where there were fewer.
        words: such as "6 test images of folder:photos".
    """

    pixels_B3HW: Tensor
    words: str


def trial(run: Run, backbone: Backbone, images: Sequence[Path], runtime: Runtime, progress: Progress) -> Trial:
    """Pictures to try an export on: those named, or else some test images of the run, or else random pixels.

    Args:
        images: files or folders.

    Raises:
        InputError: a picture that was named cannot be read.
    """
    if images:
        files = _files(images)
        return _of(run, backbone, files, f"{len(files)} pictures of --images" if len(files) > 1 else str(files[0]))
    try:
        records = run.load_dataset(runtime, allow_overlap=True).split("test")
        chosen = [records[i * len(records) // COUNT] for i in range(min(COUNT, len(records)))]
        return _of(run, backbone, chosen, f"{len(chosen)} test images of {run.config.data}")
    except InputError as error:
        progress.warn(f"the export is tried on random pixels: {error.message}; --images names pictures to try it on")
        return Trial(noise(backbone, COUNT), f"{COUNT} images of random pixels")


def noise(backbone: Backbone, count: int) -> Tensor:
    """Images of random pixels, always the same: (count,3,H,W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *backbone.preprocess.sides, generator=generator)


def _of(run: Run, backbone: Backbone, pictures: Sequence[Any], words: str) -> Trial:
    transform, sides = backbone.transform(train=False), backbone.preprocess.sides
    tensors = [picture_tensor(picture, transform, sides, upright=run.config.exif) for picture in pictures]
    tensors *= -(-LEAST // len(tensors))
    return Trial(torch.stack(tensors), words)


def _files(images: Sequence[Path]) -> list[Path]:
    """The first pictures of what was named, folders at any depth."""
    found: list[Path] = []
    for place in images:
        if not place.is_dir():
            found.append(place)
            continue
        below = [place / name for name in islice(filter(is_image, files_below(place)), COUNT)]
        if not below:
            raise InputError(f"folder {place} holds no pictures", hint="name pictures, or another folder (--images)")
        found += below
    return found[:COUNT]
