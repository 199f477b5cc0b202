"""CPU time of `train` up to its first step, less that of an empty Python, and of loading a file of weights.

One shot of each of the 64 built-in classes, in an empty folder with empty caches; the features of these 64 drawings
are within it. A file of ViT-B/16 is read twice, with the digest that its runs are kept by: the second time it is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import open_clip
from safetensors.torch import save_file

from benchmarks.frame import Mark, Row, children_clock, timed

TRAIN = ["-m", "vlmprompt", "train", "--method", "coop", "--data", "doodles", "--shots", "1", "--set", "max_steps=1"]
HEAVY = ("torch._dynamo", "torchvision", "open_clip", "timm", "transformers")
COUNT = f"""
import sys
from vlmprompt.cli.main import main
assert main(sys.argv[1:]) == 0
print(sum(name in sys.modules for name in {HEAVY!r}), file=sys.stderr)
"""
LOAD = """
import sys
from vlmprompt.api import load_backbone
load_backbone(sys.argv[1], quick_gelu=False).digest
"""
ARCHITECTURE = "ViT-B-16"


def measure(repeats: int = 5) -> list[Row]:
    """Two rows."""
    with tempfile.TemporaryDirectory() as place:
        return [_train(Path(place), repeats), _weights(Path(place), repeats)]


def _train(place: Path, repeats: int) -> Row:
    bare_s = median(cpu_s(["-c", "pass"], place / f"bare-{n}") for n in range(repeats))
    whole_s = median(cpu_s(TRAIN, place / f"train-{n}") for n in range(repeats))
    torch_s = median(cpu_s(["-c", "import torch"], place / f"torch-{n}") for n in range(repeats))
    done = _run(["-c", COUNT, *TRAIN[2:]], place / "counted")
    heavy = int(done.stderr.split()[-1])
    figures = {"CPU s": whole_s - bare_s, "of which import torch s": torch_s - bare_s}
    marks = (Mark("heavy packages imported", heavy, 0, at_least=False),)
    return Row("first_step", "train, CoOp on doodles, 1 shot, 1 step", figures, marks)


def _weights(place: Path, repeats: int) -> Row:
    file = place / "weights.safetensors"
    save_file(open_clip.create_model(ARCHITECTURE).state_dict(), file)
    line = ["-c", LOAD, f"{ARCHITECTURE}/{file}"]
    times = [[cpu_s(line, place / f"load-{n}") for _ in range(2)] for n in range(repeats)]
    first_s, again_s = (median(column) for column in zip(*times, strict=True))
    figures = {"first, CPU s": first_s, "again, CPU s": again_s}
    return Row("first_step", f"load a file of {ARCHITECTURE}, with its digest", figures)


def cpu_s(line: Sequence[str], folder: Path) -> float:
    """User and system time of a Python process and its children, run in a folder that also holds its caches."""
    return timed(lambda: _run(line, folder), children_clock)


def _run(line: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    env: Mapping[str, str] = os.environ | {"VLMPROMPT_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *line], cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", check=True
    )
