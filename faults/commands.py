"""The commands that are disturbed: small, but with everything in them that can be lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DATA = "doodles-animals"
RUN = ["--data", DATA, "--backbone", "doodle-clip", "--device", "cpu", "--workers", "0"]
STEPS = ["--set", "batch_size=4", "--set", "checkpoint_every=2", "--set", "max_steps=24"]
SUITES = ["--suite", "accuracy", "--suite", "few-shot"]
RECIPE = """
title = "Small"
about = "what is killed"
seeds = [1]

[[grid]]
methods = ["coop"]
data = ["doodles-animals"]
shots = [1]
setting = "base-to-new"
suites = ["base-to-new", "accuracy"]
settings = { max_steps = 24, batch_size = 4, checkpoint_every = 2 }

[[grid]]
methods = ["coop"]
label = "coop, 4 tokens"
data = ["doodles-animals"]
shots = [1]
suites = ["accuracy"]
settings = { "options.n_ctx" = 4, "options.ctx_init" = "none", max_steps = 24, batch_size = 4, checkpoint_every = 2 }

[[column]]
header = "accuracy"
suite = "accuracy"
cell = "test"
metric = "top1"
"""


@dataclass(frozen=True)
class Command:
    """A command and where it works.

    Attributes:
        arguments: of `vlmprompt`, given the folder.
        again: what is added when it is given again.
        prepare: fills the folder beforehand.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    again: tuple[str, ...] = ()
    prepare: Callable[[Path], None] = lambda folder: None


def commands(trained: Path, recipe: Path) -> list[Command]:
    """Train, evaluate, sweep and reproduce.

    Args:
        trained: a finished run, for evaluate.
        recipe: a file; written here.
    """
    recipe.write_text(RECIPE, encoding="utf-8")
    train = ["train", "--method", "coop", "--shots", "1", *RUN, *STEPS]
    sweep = ["sweep", "--method", "coop", "--shots", "1", "--shots", "2", *RUN, *STEPS, *SUITES]
    return [
        Command("train", lambda folder: [*train, "--out", str(folder / "run")], ("--resume",)),
        Command(
            "evaluate",
            lambda folder: ["evaluate", str(folder / "run"), "--device", "cpu", "--workers", "0"],
            prepare=lambda folder: _copy(trained, folder / "run"),
        ),
        Command(
            "sweep",
            lambda folder: [*sweep, "--out", str(folder / "s")],
        ),
        Command(
            "reproduce",
            lambda folder: ["reproduce", str(recipe), "--device", "cpu", "--workers", "0", "--out", str(folder / "r")],
        ),
    ]


def _copy(run: Path, to: Path) -> None:
    shutil.copytree(run, to, dirs_exist_ok=True)
