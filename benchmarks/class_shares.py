"""Memory of a GalLoP step at 4,000 classes on a tiny tower, in one process and in each of two that share it.

The activations of all classes are held at once, as where a card has room for them. In chunks, which a CPU takes from a
few hundred classes on, the text tower has the memory of one chunk whatever the number of classes is, alone or shared.

As a script, `python -m benchmarks.class_shares FOLDER` is one process of those that the environment names; it leaves
its prompts after some steps in the folder, and prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import open_clip
import torch
from safetensors.torch import load_file, save_file

from benchmarks.classes_scale import forget_peak, peak_bytes
from benchmarks.frame import Mark, Row
from benchmarks.many_classes import class_names
from vlmprompt.api import Backbone, build_method
from vlmprompt.backbones.text import causal
from vlmprompt.testing import tiny_clip

CLASSES, IMAGES, STEPS = 4_000, 32, 2
OPTIONS = {"n_global": 2, "n_local": 2}
AT_ONCE = (2**40, 2**40)  # tokens in a chunk
WARM = 20  # classes of a first step, after which torch holds what it loads with the first of its kind
# Large tensors are given back to the system when they are freed, so what is resident is what is in use.
IN_USE = {"MALLOC_MMAP_THRESHOLD_": "500000", "MALLOC_TRIM_THRESHOLD_": "4000000"}


def measure(repeats: int = 1) -> list[Row]:
    """Peak memory above the loaded model for each process, and how far the prompts are apart after some steps."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (one,) = _processes(folder, 1)
        two = _processes(folder, 2)
        alone, *shared = (load_file(folder / f"{rank}of{size}.safetensors") for rank, size in ((0, 1), (0, 2), (1, 2)))
    apart = max(float((own[key] - alone[key]).abs().max()) for own in shared for key in alone)
    moved = max(float((alone[key] - alone[f"{key} before"]).abs().max()) for key in alone if "before" not in key)
    most = max(found["gigabytes"] for found in two)
    figures = {"GB of one": one["gigabytes"], "GB of each of two": most, "prompts moved": moved}
    marks = (
        Mark("times the memory of one", most / one["gigabytes"], 0.6, at_least=False),
        Mark("prompts apart", apart, 1e-6, at_least=False),
    )
    return [Row("class_shares", f"GalLoP, K={CLASSES}, B={IMAGES}, two processes", figures, marks)]


def _processes(folder: Path, size: int) -> list[dict[str, float]]:
    """What each of some processes measures, all at the same time."""
    meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # they meet in a file
    command, root = [sys.executable, "-m", "benchmarks.class_shares", str(folder)], Path(__file__).parents[1]
    started = []
    for rank in range(size):
        env = {**os.environ, **IN_USE, **meeting, "RANK": str(rank), "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=env))
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("a process of benchmarks.class_shares has failed")
    return [json.loads(text) for text in said]


def one(folder: Path) -> dict[str, float]:
    """The peak of the first step above what the process held before."""
    from vlmprompt.parallel.meeting import join
    from vlmprompt.parallel.rows import RowShare
    from vlmprompt.training.batches import TrainBatch
    from vlmprompt.training.loop import forward
    from vlmprompt.training.stop import StopRequest
    from vlmprompt.training.team import Team

    group = join(f"file://{folder / 'meeting'}")
    os.environ["VLMPROMPT_TEXT_MEMORY"] = "1000"
    causal.SUFFIX_TOKENS = AT_ONCE  # type: ignore[attr-defined]
    backbone = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny")
    generator = torch.Generator().manual_seed(0)
    method, small = (
        build_method("gallop", backbone, class_names(n), OPTIONS, generator=generator).train() for n in (CLASSES, WARM)
    )
    start = {f"{name} before": tensor.clone() for name, tensor in method.trainable_state().items()}
    images = torch.randn(IMAGES, 3, *backbone.preprocess.sides, generator=generator)
    labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
    team, share = Team.of(group, method, IMAGES), RowShare.of(group, IMAGES)
    own = slice(share.start, share.stop)
    batch = TrainBatch(images[own], labels[own], torch.arange(IMAGES)[own], share=None if group.alone else share)
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.002, momentum=0.9)
    warm = torch.zeros(2, dtype=torch.int64)
    small.loss(small(images[:2]), warm).total.backward()
    peaks = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        before = forget_peak()
        with team.sharing(method):
            output, losses = forward(method, batch, None)
            team.own(losses.total, batch).backward()
        peaks.append(peak_bytes() - before)
        team.add_up(method, output, losses, batch, StopRequest())
        del output, losses
        optimizer.step()
    save_file({**start, **method.trainable_state()}, folder / f"{group.rank}of{group.size}.safetensors")
    group.leave()
    return {"gigabytes": peaks[0] / 1e9}


if __name__ == "__main__":
    print(json.dumps(one(Path(sys.argv[1]))))
