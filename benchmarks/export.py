"""A run's ONNX file in onnxruntime beside the same frozen method in torch, on this CPU with as many threads.

Times are of the process's CPU, so that a busy machine does not count; the two take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.frame import Mark, Row
from vlmprompt.api import FrozenMethod, build_method, load_backbone
from vlmprompt.export import graph
from vlmprompt.export.trial import noise

CLASSES = [f"thing {number}" for number in range(100)]
CASES = (
    ("ViT-B-32-quickgelu", "coop"),
    ("ViT-B-16-quickgelu", "bloom"),
    ("ViT-B-16-quickgelu", "gallop"),
    ("RN50-quickgelu", "coop"),
)
SIZES = (1, 8)  # images in a batch
MARK = 1.2


def measure(repeats: int = 7) -> list[Row]:
    """Medians, and their ratios."""
    rows = []
    for spec, name in CASES:
        frozen = build_method(name, load_backbone(spec, random_weights=0), CLASSES).frozen()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "graph.onnx"
            graph.save(graph.traced(frozen, name, {}), file)
            session = graph.session(file, threads=torch.get_num_threads())
            rows += [_row(f"{name}, {spec}, {size} images", frozen, session, size, repeats) for size in SIZES]
    return rows


def _row(case: str, frozen: FrozenMethod, session: object, size: int, repeats: int) -> Row:
    pixels = noise(frozen.method.backbone, size)
    own_s, torch_s = _in_turns(lambda: graph.run(session, pixels), lambda: frozen(pixels), repeats)
    figures = {"onnxruntime CPU s": own_s, "torch CPU s": torch_s}
    return Row("export", case, figures, (Mark("of torch's time", own_s / torch_s, MARK, at_least=False),))


def _in_turns(one: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of the process's CPU, after one call that is not counted."""
    one(), other()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, times in zip((one, other), seconds, strict=True):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
