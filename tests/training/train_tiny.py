"""A little run in a process of its own, to be killed by tests."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from pathlib import Path

import open_clip

from tests.processes import reporting
from tests.training.material import Hooked, Noisy, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import VlmPromptError
from vlmprompt.testing import tiny_clip
from vlmprompt.training.run import train


def tiny_config(photos: Path) -> RunConfig:
    """60 steps of the method that has most to restore."""
    return config(photos, method="noisy", epochs=20, checkpoint_every=4)


def main(photos: Path, out: Path, resume: bool, steps: Connection | None = None) -> int:
    """Train, step by step if a parent says when; gives the exit code of the error that ended it."""
    backbone = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny-vit")
    progress = Hooked(reporting(steps))
    with registered("noisy", Noisy):
        try:
            settings = tiny_config(photos)
            train(settings, runtime(out.parent), out=out, resume=resume, progress=progress, backbone=backbone)
        except VlmPromptError as error:
            sys.stderr.write(f"{error.message}\n")
            return int(error.exit_code)
    return 0
