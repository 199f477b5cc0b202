"""Predicting, against a bare loop of `encode_image`: the same files, weights and batches, classes and text.

Both read, transform and classify. What is compared is CPU time of the process: other work on the machine counts for
nothing.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import Tensor

from benchmarks.frame import Mark, Row, relative_error, side_by_side
from vlmprompt.api import build_method, load_backbone
from vlmprompt.data.records import Record
from vlmprompt.predict.predictor import Predictor
from vlmprompt.predict.writers import Csv, rows_of

ARCHITECTURE = "ViT-B-32"
FILES, SIDES, BATCH, CLASSES = 32, (500, 375), 16, 100
LEAST = 0.95  # of the bare loop's speed


def measure(repeats: int = 5) -> list[Row]:
    """A row without threads that read ahead, and one with."""
    with tempfile.TemporaryDirectory() as folder:
        files = _write(Path(folder))
        backbone = load_backbone(ARCHITECTURE, random_weights=0)
        method = build_method("zeroshot", backbone, [f"thing {i}" for i in range(CLASSES)])
        frozen = method.frozen()
        assert frozen.text is not None
        text_Kd = frozen.text.unit_PKd[0]
        transform = open_clip.image_transform(
            backbone.preprocess.sides[0], is_train=False, mean=backbone.preprocess.mean, std=backbone.preprocess.std
        )

        model: Any = backbone.model

        def bare() -> Tensor:
            found = []
            for start in range(0, len(files), BATCH):
                images = []
                for path in files[start : start + BATCH]:
                    with Image.open(path) as image:
                        images.append(transform(image.convert("RGB")))
                with torch.no_grad():
                    z_Bd = model.encode_image(torch.stack(images), normalize=True)
                    found.append((backbone.scale * z_Bd @ text_Kd.T).softmax(dim=-1))
            return torch.cat(found)

        def ours(workers: int) -> Tensor:
            predictor = Predictor(frozen, batch_size=BATCH, workers=workers)
            writer, found = Csv(io.StringIO().write), []
            for said in predictor.batches(Record(str(path), 0, path, True) for path in files):
                writer.add(rows_of(said))
                found.append(said.probabilities_BK)
            return torch.cat(found)

        return [_row(workers, repeats, bare, partial(ours, workers)) for workers in (0, 2)]


def _row(workers: int, repeats: int, bare: Callable[[], Tensor], ours: Callable[[], Tensor]) -> Row:
    error = relative_error(ours(), bare())
    ours_s, bare_s = side_by_side({ours: repeats, bare: repeats}, time.process_time)
    figures = {"CPU s": ours_s, "bare CPU s": bare_s, "probability error": error}
    marks = (Mark("speed over the bare loop's", bare_s / ours_s, LEAST), Mark("error", error, 1e-3, at_least=False))
    case = f"{ARCHITECTURE}, {FILES} JPEG files of {SIDES[0]} x {SIDES[1]}, {workers} reading threads"
    return Row("predict", case, figures, marks)


def _write(folder: Path) -> list[Path]:
    """Pictures with something in them: blurred noise, each of its own."""
    files = []
    for i in range(FILES):
        image = Image.effect_noise((SIDES[0] // 8, SIDES[1] // 8), 20 + 4 * i).convert("RGB").resize(SIDES)
        files.append(folder / f"{i}.jpg")
        image.save(files[-1], quality=90)
    return files
