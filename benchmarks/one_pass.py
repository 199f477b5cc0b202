"""`evaluate --suite accuracy --suite ood` of a GalLoP run: one pass of the image tower, beside one for each need.

The run reads patches before the projection, zero-shot and the linear probe the global feature, and the scores of both
patches in joint space. Beside one pass for all of them stands one for each, as it was before. CPU time of the process,
in turns; the rows must be equal.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from unittest.mock import patch

from PIL import Image

from benchmarks.frame import Mark, Row, side_by_side
from vlmprompt.api import Backbone, Runtime, load_backbone, train
from vlmprompt.evaluation.images import ImageBank
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.results.rows import ResultRow

ARCHITECTURE = "ViT-B-16"
CLASSES, TEST, OTHERS = ("cat", "dog", "red fox", "barn owl"), 6, 24  # test images of each class, other images
SUITES = ["accuracy", "ood"]
LEAST = 2.0


def measure(repeats: int = 3) -> list[Row]:
    """One row."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        stack.enter_context(patch.dict("os.environ", {"VLMPROMPT_CACHE_DIR": place}))
        folder, backbone = Path(place), load_backbone(ARCHITECTURE, random_weights=0)
        run = _trained(folder, backbone)
        numbers = count()

        def measured() -> list[ResultRow]:
            fresh = Path(shutil.copytree(run, folder / f"run-{next(numbers)}" / "run"))
            return evaluate(
                fresh,
                SUITES,
                _runtime(folder),
                companions={"ood": [f"folder:{folder / 'others'}"]},
                references_dir=folder / "references",
                backbone=backbone,
            )

        apart = _apart(measured)
        if [row.value for row in measured()] != [row.value for row in apart()]:
            raise AssertionError("the rows are not those of separate passes")
        one_s, apart_s = side_by_side({measured: repeats, apart: repeats}, time.process_time)
    figures = {"one pass, CPU s": one_s, "a pass for each need, CPU s": apart_s}
    case = f"GalLoP, {ARCHITECTURE}, {TEST * len(CLASSES)} test images and {OTHERS} others"
    return [Row("one_pass", case, figures, (Mark("times faster", apart_s / one_s, LEAST),))]


def _apart(measured: Callable[[], list[ResultRow]]) -> Callable[[], list[ResultRow]]:
    """The same with a pass for each need."""

    def act() -> list[ResultRow]:
        with (
            patch.object(ImageBank, "_together", lambda self, method, *_: [method]),
            patch.object(ImageBank, "_from_kept", lambda *_: None),
        ):
            return measured()

    return act


def _trained(folder: Path, backbone: Backbone) -> Path:
    """A run of one step, on pictures of noise."""
    for split, n in (("train", 2), ("test", TEST)):
        for i, name in enumerate(CLASSES):
            _write(folder / "photos" / split / name, n, 40 + 10 * i)
    _write(folder / "others" / "thing", OTHERS, 90)
    return train("gallop", f"folder:{folder / 'photos'}", backbone, shots=1, max_steps=1, runtime=_runtime(folder)).path


def _runtime(folder: Path) -> Runtime:
    return Runtime(device="cpu", workers=0, runs_dir=folder / "runs", feature_cache="off")


def _write(folder: Path, n: int, sigma: float) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.effect_noise((256, 256), sigma + i).convert("RGB").save(folder / f"{i}.png")
