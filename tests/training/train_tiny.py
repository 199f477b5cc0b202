"""`python -m tests.training.train_tiny PHOTOS OUT [--resume]`: a slow little run, to be killed by tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import open_clip

from tests.conftest import tiny_clip
from tests.training.material import Hooked, Noisy, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import VlmPromptError
from vlmprompt.training.run import train

STEP_S = 0.02


def tiny_config(photos: Path) -> RunConfig:
    """60 steps of the method that has most to restore."""
    return config(photos, method="noisy", epochs=20, checkpoint_every=4)


def tell(step: int) -> None:
    """Say that a step is done, and give the parent time to act on it."""
    print(step, flush=True)
    time.sleep(STEP_S)


def main(photos: Path, out: Path, resume: bool) -> int:
    """Train; gives the exit code of the error that ended it."""
    backbone = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny-vit")
    progress = Hooked(tell)
    with registered("noisy", Noisy):
        try:
            settings = tiny_config(photos)
            train(settings, runtime(out.parent), out=out, resume=resume, progress=progress, backbone=backbone)
        except VlmPromptError as error:
            sys.stderr.write(f"{error.message}\n")
            return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), "--resume" in sys.argv))
