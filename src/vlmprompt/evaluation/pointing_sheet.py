"""Pictures with the patches that local prompts choose: `python -m vlmprompt.evaluation.pointing_sheet RUN -o FILE`.

One row a test picture, one column a local prompt, small scales first; what is not chosen is dimmed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vlmprompt.config.models import Runtime
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Record
from vlmprompt.evaluation.pointing import chosen_patches
from vlmprompt.training.runs import Run, load_run

SIDE, GAP, DIMMED = 192, 6, 0.35


def pointing_sheet(run: Run, *, images: int = 6, runtime: Runtime | None = None) -> Image.Image:
    """The first test picture of as many classes, spread over all of them, under each local prompt.

    Raises:
        CapabilityError: the run's method has no local prompts that choose patches.
    """
    records = _spread(run.load_dataset(runtime).split("test"), images)
    backbone = run.load_backbone(runtime)
    method, transform = run.build_method(backbone), backbone.transform(train=False)
    batch = torch.stack([transform(read_image(r)) for r in records]).to(backbone.device)
    with torch.no_grad():
        output = method(batch)
    chosen = chosen_patches(output, torch.tensor([r.label for r in records]))
    n_patches = backbone.vision.n_local
    rows = [
        [_shown(read_image(record), index_Bk[i], n_patches) for index_Bk in chosen] for i, record in enumerate(records)
    ]
    return _sheet(rows)


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    first = list({r.label: r for r in reversed(records)}.values())[::-1]
    return first[:: max(1, len(first) // count)][:count]


def _shown(image: Image.Image, index_k: Tensor, n_patches: int) -> Image.Image:
    """The middle square, bright where a patch is chosen and dimmed elsewhere."""
    edge, grid = min(image.size), math.isqrt(n_patches)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    square = image.crop((left, top, left + edge, top + edge)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    mask = Image.new("L", (SIDE, SIDE), round(255 * DIMMED))
    pen = ImageDraw.Draw(mask)
    for place in index_k.tolist():
        row, column = divmod(place, grid)
        corners = (column * SIDE // grid, row * SIDE // grid, (column + 1) * SIDE // grid, (row + 1) * SIDE // grid)
        pen.rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), fill=255)
    return Image.composite(square, Image.new("RGB", square.size, "white"), mask)


def _sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    step = SIDE + GAP
    sheet = Image.new("RGB", (step * len(rows[0]) - GAP, step * len(rows) - GAP), "white")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            sheet.paste(image, (j * step, i * step))
    return sheet


def main() -> None:
    """Write the sheet of one run."""
    parser = argparse.ArgumentParser(description="Pictures with the patches that local prompts choose.")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="PNG file")
    parser.add_argument("--images", type=int, default=6, help="pictures (6)")
    args = parser.parse_args()
    pointing_sheet(load_run(args.run), images=args.images).save(args.out)


if __name__ == "__main__":
    main()
