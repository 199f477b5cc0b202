"""A little sweep, here or in a process of its own, to be stopped by tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import open_clip

from tests.processes import reporting
from tests.training.material import Hooked, Noisy, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.errors import VlmPromptError
from vlmprompt.evaluation import resources
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.results.rows import ResultRow
from vlmprompt.testing import tiny_clip

SETS = ("n_ctx=2", "epochs=3", "batch_size=4", "checkpoint_every=2", "lr=0.02")


def resolver(*sets: str) -> Callable[..., Resolved]:
    """How the command line makes a configuration of a point of the grid."""

    def made(**flags: Any) -> Resolved:
        given = [s for s in sets if flags["method"] not in ("zeroshot", "linear_probe") or not s.startswith("n_ctx")]
        return resolve({"backbone": "tiny-vit", **flags}, sets=given, env={})

    return made


def run_sweep(photos: Path, out: Path, progress: Hooked, **grid: Any) -> list[ResultRow]:
    """One method at two numbers of shots and two seeds, with references."""
    axes: dict[str, Any] = {"methods": ["noisy"], "datasets": [f"folder:{photos}"], "shots": [1, 2], "seeds": [1, 2]}
    where = runtime(out.parent / "unused")
    return sweep(Grid(**axes | grid), resolver(*SETS), ["accuracy", "few-shot"], where, out=out, progress=progress)


def main(photos: Path, out: Path, steps: Connection | None = None) -> int:
    """Sweep, step by step if a parent says when; gives the exit code of the error that ended it."""
    backbone = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny-vit")
    resources.load_backbone = lambda *args, **kwargs: backbone
    with registered("noisy", Noisy):
        try:
            run_sweep(photos, out, Hooked(reporting(steps)))
        except VlmPromptError as error:
            sys.stderr.write(f"{error.message}\n")
            return int(error.exit_code)
    return 0
