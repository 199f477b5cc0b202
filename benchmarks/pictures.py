"""Reading many small pictures: what the checks of files, formats and orientation cost beside plain Pillow."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.frame import Mark, Row, side_by_side
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset

CLASSES, IMAGES, SIDE = 20, 500, 64  # 10,000 files


def measure(repeats: int = 7) -> list[Row]:
    """Time to list and to decode class folders of small JPEG files, over that of `os.walk` and `Image.open`."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "photos"
        _write(base)
        dataset = load_dataset(f"folder:{base}")
        paths = _walked(base)

        def listed() -> Dataset:
            return load_dataset(f"folder:{base}")

        def walked() -> list[str]:
            return _walked(base)

        def read() -> None:
            for records in dataset.splits.values():
                for record in records:
                    read_image(record)

        def plain() -> None:
            for path in paths:
                with Image.open(path) as image:
                    image.convert("RGB")

        for run in (listed, walked, read, plain):
            run()
        listed_s, walked_s, read_s, plain_s = side_by_side(dict.fromkeys((listed, walked, read, plain), repeats))
    ratio = (listed_s + read_s) / (walked_s + plain_s)
    files = CLASSES * IMAGES
    figures = {"us a file, listed": 1e6 * listed_s / files, "us a file, walked": 1e6 * walked_s / files}
    figures |= {"us a file, read": 1e6 * read_s / files, "us a file, plain Pillow": 1e6 * plain_s / files}
    marks = (Mark("time over that of plain Pillow", ratio, 1.3, at_least=False),)
    return [Row("pictures", f"{files} JPEG files of {SIDE} x {SIDE}", figures, marks)]


def _write(base: Path) -> None:
    content = io.BytesIO()
    Image.effect_noise((SIDE, SIDE), 60).convert("RGB").save(content, format="JPEG")
    for split in ("train", "test"):
        for k in range(CLASSES):
            folder = base / split / f"class_{k}"
            folder.mkdir(parents=True)
            for i in range(IMAGES // 2):
                (folder / f"{i}.jpg").write_bytes(content.getvalue())


def _walked(base: Path) -> list[str]:
    return [os.path.join(folder, name) for folder, _, names in os.walk(base) for name in names]  # noqa: PTH118
