"""Sheets of samples."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.sheet import CAPTION, GAP, SIDE, sample_sheet


def test_strips_show_as_a_line(tmp_path: Path) -> None:
    records = []
    for i, size in enumerate([(2, 6_000), (6_000, 2), (60, 30)]):
        Image.new("RGB", size, (200, 30, 40)).save(tmp_path / f"{i}.png")
        records.append(Record(f"{i}.png", 0, tmp_path / f"{i}.png"))
    content = sample_sheet(Dataset("it", "it", ("strip",), {"test": tuple(records)}))
    with Image.open(io.BytesIO(content)) as sheet:
        left, top = GAP, GAP + CAPTION
        for box in [(55, 0, 57, SIDE), (0, 55, SIDE, 57), (0, 30, SIDE, 80)]:
            pixels = sheet.crop((left + box[0], top + box[1], left + box[2], top + box[3]))
            assert (200, 30, 40) in {colour for _, colour in pixels.getcolors(10**4)}, box
            left += SIDE + GAP
