"""What it costs to know a data set of 100,000 small files: copies found, sizes and times known, beside reading it.

One process, the file cache warm. Reading is what any build does: listing the files and decoding each image once.
"""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.frame import Mark, Row, timed
from vlmprompt.data.copies import find_copies, settle_copies
from vlmprompt.data.fewshot import sample
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset

SPLITS = {"train": 700, "test": 300}  # images a class
CLASSES = 100
SHOTS = 16
MAX_SHARE = 0.10


def measure(repeats: int = 3) -> list[Row]:
    """Medians are not taken: each part runs long, and the checks only once as all that they know is kept."""
    with tempfile.TemporaryDirectory() as folder:
        photos = _write(Path(folder) / "photos")
        spec = f"folder:{photos}"
        list_s = min(timed(lambda: load_dataset(spec)) for _ in range(repeats))
        dataset = load_dataset(spec)
        drawn = sample(dataset, SHOTS, 1)
        decode_s = timed(lambda: _decode(dataset))
        digest_s = timed(lambda: dataset.measured_digest)
        run_s = timed(lambda: settle_copies(dataset, drawn, allow=False))
        all_s = timed(lambda: find_copies(dataset.splits))
    read_s = list_s + decode_s
    figures = {"listing s": list_s, "decoding s": decode_s, "digest s": digest_s, "shots s": run_s, "all s": all_s}
    ratios = {"checks of a run / listing": (run_s + digest_s) / list_s, "data check / reading": all_s / read_s}
    mark = Mark("checks of a run / reading", (run_s + digest_s) / read_s, MAX_SHARE, at_least=False)
    return [Row("reading", f"{len(list(_images(dataset)))} files, {SHOTS} shots", figures | ratios, (mark,))]


def _write(folder: Path) -> Path:
    """Small JPEGs whose sizes collide: noise of one kind, all contents different."""
    noise = random.Random(0)
    for split, count in SPLITS.items():
        for label in range(CLASSES):
            place = folder / split / f"class_{label:03}"
            place.mkdir(parents=True)
            for i in range(count):
                content = io.BytesIO()
                pixels = Image.frombytes("RGB", (8, 8), noise.randbytes(8 * 8 * 3))
                pixels.resize((64, 64)).save(content, format="JPEG", quality=80)
                (place / f"{i:05}.jpg").write_bytes(content.getvalue())
    return folder


def _images(dataset: Dataset) -> Iterator[object]:
    return (record for records in dataset.splits.values() for record in records)


def _decode(dataset: Dataset) -> None:
    for records in dataset.splits.values():
        for record in records:
            read_image(record)
