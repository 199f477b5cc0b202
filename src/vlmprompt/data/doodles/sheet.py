"""Contact sheets: `python -m vlmprompt.data.doodles.sheet animals --domain night -o animals.png`.

A sheet has a row or more for each class, its name under the pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlmprompt.data.doodles.domains import DOMAINS
from vlmprompt.data.doodles.ink import SIZE
from vlmprompt.data.doodles.parse import GROUPS
from vlmprompt.data.doodles.pictures import COUNTS, DEFAULT_DOMAIN, OUTLIERS, members, picture

_GAP, _NAME = 4, 14  # pixels around a picture, and for its name
Cell = tuple[str, Sequence[Image.Image]]  # a caption and the pictures above it


def contact_sheet(cells: Sequence[Cell], columns: int, zoom: int = 1) -> Image.Image:
    """Captioned strips of pictures in a grid.

    Args:
        cells: from left to right, then down; each has the same number of pictures.
        columns: cells side by side.
        zoom: whole pixels a pixel.
    """
    side = SIZE * zoom
    wide, high = (side + _GAP) * len(cells[0][1]) + 2 * _GAP, side + _GAP + _NAME
    sheet = Image.new("RGB", (wide * min(columns, len(cells)), high * -(-len(cells) // columns)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for i, (caption, images) in enumerate(cells):
        x, y = i % columns * wide + _GAP, i // columns * high + _GAP
        for k, image in enumerate(images):
            sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (x + k * (side + _GAP), y))
        pen.text((x, y + side), caption, fill="black", font=font)
    return sheet


def of_classes(names: Sequence[str], each: int, *, domain: str, split: str, columns: int, zoom: int) -> Image.Image:
    """The first `each` pictures of some classes."""
    cells = [(name, [picture(name, i, domain=domain, split=split).image for i in range(each)]) for name in names]
    return contact_sheet(cells, columns, zoom)


def main() -> None:
    """Write the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("collection", choices=(*GROUPS, *OUTLIERS))
    parser.add_argument("--classes", nargs="+", help="only these classes")
    parser.add_argument("--domain", choices=tuple(DOMAINS), default=DEFAULT_DOMAIN)
    parser.add_argument("--split", choices=tuple(COUNTS), default="train")
    parser.add_argument("--each", type=int, default=4, help="pictures a class")
    parser.add_argument("--columns", type=int, default=4, help="classes side by side")
    parser.add_argument("--zoom", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG file")
    args = parser.parse_args()
    names = args.classes or members(args.collection)
    sheet = of_classes(names, args.each, domain=args.domain, split=args.split, columns=args.columns, zoom=args.zoom)
    sheet.save(args.output, optimize=True)


if __name__ == "__main__":
    main()
