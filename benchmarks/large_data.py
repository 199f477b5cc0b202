"""What grows with the images of a data set: 10,000 and 100,000 small files, from listing them to starting a run.

CPU time of one process, so that other work on the machine counts for nothing; the file cache is warm.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from PIL import Image

from benchmarks.frame import Mark, Row, timed
from vlmprompt.data.check import check
from vlmprompt.data.copies import settle_copies
from vlmprompt.data.fewshot import sample
from vlmprompt.data.load import load_dataset
from vlmprompt.progress import SilentProgress
from vlmprompt.training.order import balanced, epoch_generator

IMAGES, PER_CLASS, SHOTS = (10_000, 100_000), 20, 16
LINEAR = 1.15  # log-log slope: 100,000 in at most 14 times what 10,000 take
TO_START = 30.0  # seconds


def measure(repeats: int = 1) -> list[Row]:
    """Seconds of each part at both sizes, and the growth of all that happens before a run's first step."""
    few, many = (_at(count, repeats) for count in IMAGES)
    rows = [_row(part, few[part], many[part]) for part in few]
    starting = [part for part in few if part not in ("data check", "epoch's order")]
    whole = _row("start of training", *(sum(seconds[part] for part in starting) for seconds in (few, many)))
    mark = Mark("seconds", whole.figures[f"s at {IMAGES[1]}"], TO_START, at_least=False)
    return [*rows, Row(whole.bench, whole.case, whole.figures, (*whole.marks, mark))]


def _row(part: str, few_s: float, many_s: float) -> Row:
    times = many_s / few_s
    figures = {f"s at {IMAGES[0]}": few_s, f"s at {IMAGES[1]}": many_s, "times": times}
    bound = (IMAGES[1] / IMAGES[0]) ** LINEAR
    return Row("large_data", part, figures, (Mark("times", times, bound, at_least=False),))


def _at(count: int, repeats: int) -> Mapping[str, float]:
    """Seconds of each part; a class has as many images at every size, so there are ten times as many classes, too."""
    with tempfile.TemporaryDirectory() as place:
        photos = _write(Path(place) / "photos", count)
        spec = f"folder:{photos}"
        dataset = load_dataset(spec)
        drawn = sample(dataset, SHOTS, 1)
        labels_n = torch.tensor([record.label for record in dataset.split("train")])
        return {
            "listing": _cpu_s(lambda: load_dataset(spec), repeats),
            "sampling": _cpu_s(lambda: sample(dataset, SHOTS, 1), repeats),
            "digest": _cpu_s(lambda: dataset.measured_digest),
            "copies of the shots": _cpu_s(lambda: settle_copies(dataset, drawn, allow=False)),
            "epoch's order": _cpu_s(lambda: balanced(labels_n, epoch_generator(1, 0)), repeats),
            "data check": _cpu_s(lambda: check(spec, None, SilentProgress())),
        }


def _cpu_s(run: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of the fastest of some calls."""
    return min(timed(run, time.process_time) for _ in range(repeats))


def _write(folder: Path, count: int) -> Path:
    """JPEG files of noise, all different; many have one size, so that their contents have to be compared."""
    noise = random.Random(0)
    for label in range(count // PER_CLASS):
        for split, images in (("train", SHOTS), ("test", PER_CLASS - SHOTS)):
            place = folder / split / f"class_{label:05}"
            place.mkdir(parents=True)
            for i in range(images):
                content = io.BytesIO()
                Image.frombytes("RGB", (8, 8), noise.randbytes(8 * 8 * 3)).save(content, format="JPEG")
                (place / f"{i:02}.jpg").write_bytes(content.getvalue())
    return folder
