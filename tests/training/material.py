"""Small photo folders, run configurations, methods that are hard to resume, and a progress that interferes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlmprompt.backbones.types import TextPrompts
from vlmprompt.config.models import RunConfig, Runtime, TrainConfig
from vlmprompt.methods.build import method_config
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.plugins import host
from vlmprompt.progress import SilentProgress, Task
from vlmprompt.registry import Source

CLASSES = ("red_fox", "green frog", "blue whale", "grey wolf")
STEPS = 9  # of `config`: 3 epochs of 3 steps, a checkpoint every 2
COLOURS = ((200, 60, 40), (50, 190, 70), (40, 60, 200), (120, 120, 120))


def make_photos(folder: Path, *, splits: Mapping[str, int], classes: tuple[str, ...] = CLASSES, seed: int = 0) -> Path:
    """Class folders of noisy one-colour images, `splits` giving their number for each class."""
    noise = np.random.default_rng(seed)
    for split, count in splits.items():
        for name, colour in zip(classes, COLOURS, strict=False):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(noise.normal(colour, 25, (40, 36, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def config(photos: Path, *, method: str = "coop", **changes: Any) -> RunConfig:
    """A run of a few steps; `changes` are keys of run, train or method options alike."""
    train: dict[str, Any] = {"epochs": 3, "batch_size": 4, "checkpoint_every": 2, "warmup_epochs": 1, "lr": 0.02}
    options: dict[str, Any] = {"n_ctx": 2} if method not in ("zeroshot", "linear_probe", "descriptions") else {}
    run: dict[str, Any] = {"data": f"folder:{photos}", "backbone": "tiny-vit", "shots": 3, "seed": 1}
    for key, value in changes.items():
        target = run if key in RunConfig.model_fields else train if key in TrainConfig.model_fields else options
        target[key] = value
    options = method_config(method, options).model_dump(mode="json")
    return RunConfig(method=method, train=TrainConfig(**train), options=options, **run)


def runtime(runs_dir: Path) -> Runtime:
    """On the CPU, decoding in the main process."""
    return Runtime(device="cpu", workers=0, runs_dir=runs_dir)


def log_lines(run: Path) -> list[dict[str, Any]]:
    """The log without its times."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


class Careless(CoOp):
    """CoOp that does not say what it can do."""

    capabilities = frozenset()


class Noisy(CoOp):
    """CoOp with everything that a resumed run must restore: random draws, and state kept between epochs."""

    mean_ctx: Tensor
    starts: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("mean_ctx", torch.zeros_like(self.ctx))
        self.register_buffer("starts", torch.zeros((), dtype=torch.int64))

    def sample_draws(self) -> Mapping[str, Tensor]:
        return {"noise": torch.randn(self.ctx.shape, generator=self.generator)}

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        noise = 0.01 * draws["noise"] if draws else 0.0
        return TextPrompts((self.ctx + noise).unsqueeze(-3))

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.starts += 1
        self.starts.mul_(1 + torch.randint(3, (), generator=self.generator))

    def end_epoch(self, epoch: int, epochs: int) -> None:
        self.mean_ctx += self.ctx.detach() / epochs

    def diagnostics(self) -> Mapping[str, float]:
        return {"starts": float(self.starts)}


class Exploding(CoOp):
    """CoOp whose loss, or else whose gradient, is NaN from a given step on."""

    at_step = 5
    gradient_only = False

    def loss(self, output: MethodOutput, labels: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> Losses:
        self.steps = getattr(self, "steps", 0) + 1
        losses = super().loss(output, labels)
        if self.steps < self.at_step:
            return losses
        if self.gradient_only:  # d/dx sqrt(x) at 0 is infinite, times 0 it is NaN; the value is finite
            return Losses(losses.total + (0 * self.ctx).sum().sqrt())
        return Losses(losses.total * math.nan)


class Breaking(CoOp):
    """CoOp: something happens to the world in its third step."""

    act: Callable[[], None] = staticmethod(lambda: None)
    steps = 0

    def loss(self, output: MethodOutput, labels: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> Losses:
        self.steps += 1
        if self.steps == 3:
            type(self).act()
        return super().loss(output, labels)


@contextmanager
def registered(name: str, cls: type[CoOp], *, module: str = "tests.training.material") -> Iterator[None]:
    """A method that a plugin would bring."""
    source = Source("made-up", "made-up", "1.0")
    host().methods.register(
        name, target=f"{module}:{cls.__name__}", config="vlmprompt.methods.coop:CoOpConfig", source=source
    )
    try:
        yield
    finally:
        host().methods.withdraw(source)


class Hooked(SilentProgress):
    """Calls a function after each step of the loop, with the number of steps that this process has taken.

    Also keeps messages and the fields of the last report.
    """

    def __init__(self, after_step: Callable[[int], None] = lambda step: None) -> None:
        super().__init__()
        self.after_step = after_step
        self.messages: list[str] = []
        self.fields: dict[str, float | str] = {}
        self.steps = 0
        self._description = ""

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Task]:
        outer, self._description = self._description, description
        yield self
        self._description = outer

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        self.fields = fields
        if self._description == "training":
            self.steps += amount
            self.after_step(self.steps)

    def message(self, text: str) -> None:
        self.messages.append(text)
