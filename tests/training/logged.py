"""Runs whose logs are looked at: how they are trained, and that a resumed one has the log of a whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.material import Hooked, config, log_lines, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.training.run import train

# Back to step 2, in the midst of epoch 1, and to 4, that of epoch 2.
STOPPED_AT = (3, 5)


def go(photos: Path, backbone: Backbone, folder: Path, method: str, **how: Any) -> Path:
    """Train by `config` into a folder of the method's name."""
    return train(config(photos, method=method), runtime(folder), out=folder / method, backbone=backbone, **how).run


def require_the_same_log(photos: Path, backbone: Backbone, folder: Path, method: str, step: int) -> None:
    """Stop a run after a step, resume it, and compare its log with that of a run that was not stopped."""
    whole = go(photos, backbone, folder / "whole", method)

    def stop(now: int) -> None:
        if now == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(photos, backbone, folder, method, progress=Hooked(stop))
    run = go(photos, backbone, folder, method, resume=True)
    assert log_lines(run) == log_lines(whole)
