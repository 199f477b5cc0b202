"""Contact sheets: `python -m vlmprompt.doodles.sheet animals --domain night -o animals.png`.

"all" shows every class, "domains" some classes in all domains, "outliers" some of each outlier set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlmprompt.doodles.domains import DOMAINS
from vlmprompt.doodles.ink import SIZE
from vlmprompt.doodles.parse import GROUPS
from vlmprompt.doodles.pictures import COUNTS, DEFAULT_DOMAIN, OUTLIERS, members, picture

_GAP, _NAME = 4, 14  # pixels around a picture, and for its name
_COLOURS = 128  # of the file: a third of the size, and hardly to be seen
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
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for i, (caption, images) in enumerate(cells):
        x, y = i % columns * wide + _GAP, i // columns * high + _GAP
        for k, image in enumerate(images):
            sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (x + k * (side + _GAP), y))
        pen.text((x, y + side), caption, fill="black", font=font)
    return sheet


def of_classes(names: Iterable[str], each: int, domain: str, split: str) -> list[Cell]:
    """The first pictures of some classes."""
    return [(name, [picture(name, i, domain=domain, split=split).image for i in range(each)]) for name in names]


def of_domains(names: Iterable[str], split: str) -> list[Cell]:
    """A picture of each class in every domain."""
    order = ", ".join(DOMAINS)
    return [
        (f"{name}: {order}", [picture(name, 0, domain=domain, split=split).image for domain in DOMAINS])
        for name in names
    ]


def main() -> None:
    """Write the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("all", *GROUPS, *OUTLIERS, "domains", "outliers"))
    parser.add_argument("--classes", nargs="+", help="only these classes")
    parser.add_argument("--domain", choices=tuple(DOMAINS), default=DEFAULT_DOMAIN)
    parser.add_argument("--split", choices=tuple(COUNTS), default="train")
    parser.add_argument("--each", type=int, default=3, help="pictures a class")
    parser.add_argument("--columns", type=int, default=4, help="classes side by side")
    parser.add_argument("--zoom", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG file")
    args = parser.parse_args()
    if args.what == "domains":
        cells = of_domains(args.classes or members("")[::4], args.split)
    else:
        every = {"all": members(""), "outliers": [name for set_ in OUTLIERS for name in members(set_)[::2]]}
        names = args.classes or every.get(args.what) or members(args.what)
        cells = of_classes(names, args.each, args.domain, args.split)
    sheet = contact_sheet(cells, args.columns, args.zoom)
    sheet.quantize(_COLOURS, dither=Image.Dither.NONE).save(args.output, optimize=True)


if __name__ == "__main__":
    main()
