"""Pictures with the patches that prompts look at: `python -m vlmprompt.evaluation.pointing_sheet RUN -o FILE`.

One row a test picture, one column a prompt. Prompts that choose patches stand small scales first, and what is not
chosen is dimmed; where a transport plan matches patches with prompts, a patch is as bright as its share of the
prompt's mass, relative to the largest share in the row.

Shapes: B images, N patches, n prompts.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vlmprompt.config.models import Runtime
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Record
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.patch_maps import chosen_patches
from vlmprompt.training.runs import Run, load_run

SIDE, GAP, DIMMED = 192, 6, 0.35


def pointing_sheet(run: Run, *, images: int = 6, runtime: Runtime | None = None) -> Image.Image:
    """The first test picture of as many classes, spread over all of them, under each prompt.

    Raises:
        CapabilityError: the run's method has no prompts that look at patches.
    """
    records = _spread(run.load_dataset(runtime).split("test"), images)
    backbone = run.load_backbone(runtime)
    method, transform = run.build_method(backbone), backbone.transform(train=False)
    batch = torch.stack([transform(read_image(r)) for r in records]).to(backbone.device)
    with torch.no_grad():
        output = method(batch, keep_plan=True)
    light_BnN = patch_light(output, torch.tensor([r.label for r in records]))
    rows = [
        [_shown(read_image(r), one_N) for one_N in light_nN] for r, light_nN in zip(records, light_BnN, strict=True)
    ]
    return _sheet(rows)


def patch_light(output: MethodOutput, labels_B: Tensor) -> Tensor:
    """How much each prompt looks at each patch for an image's own class: (B,n,N) in 0 to 1, of plan or choice.

    Raises:
        CapabilityError: neither is there.
    """
    if "plan" in output.aux:
        own_BnN = output.aux["plan"][torch.arange(len(labels_B)), labels_B].mT.cpu()
        return own_BnN / own_BnN.amax(dim=(1, 2), keepdim=True)
    chosen = chosen_patches(output, labels_B)
    assert output.local is not None
    n_images, n_patches, _ = output.local.features_BNd.shape
    one_hot = [torch.zeros(n_images, n_patches).scatter(1, index_Bk, 1.0) for index_Bk in chosen]
    return torch.stack(one_hot, dim=1)


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    first = list({r.label: r for r in reversed(records)}.values())[::-1]
    return first[:: max(1, len(first) // count)][:count]


def _shown(image: Image.Image, light_N: Tensor) -> Image.Image:
    """The middle square, as bright as a patch has light."""
    edge, grid = min(image.size), math.isqrt(len(light_N))
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    square = image.crop((left, top, left + edge, top + edge)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    shades = (255 * (DIMMED + (1 - DIMMED) * light_N)).round().byte().reshape(grid, grid)
    mask = Image.fromarray(shades.numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST)
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
    parser = argparse.ArgumentParser(description="Pictures with the patches that prompts look at.")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="PNG file")
    parser.add_argument("--images", type=int, default=6, help="pictures (6)")
    args = parser.parse_args()
    pointing_sheet(load_run(args.run), images=args.images).save(args.out)


if __name__ == "__main__":
    main()
