"""The training loop: resumable to the byte, a line of JSON a step.

Shapes: B pictures, d joint width.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import BatchNorm2d

from pretraining.model import (
    Words,
    contrastive_loss,
    encode_images,
    encode_texts,
    joint_positives,
    some_patches,
)
from pretraining.optim import Optimiser
from pretraining.scenes import Batch, Scenes

_MOST_SCALE = math.log(100)
_SAVE_EVERY_S = 120.0
_NORM_BATCHES = 32


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        lr: highest learning rate of AdamW, reached after `warmup` steps, then down to zero along a cosine.
        matrix_lr: Muon's learning rate as a multiple of it.
        keep: share of the patches that a ViT sees.
        full_from: share of the steps after which it sees them all.
        frozen_text: train the image tower against a given text tower (LiT, Zhai et al. 2022).
    """

    seed: int
    steps: int
    batch: int = 128
    lr: float = 1e-3
    matrix_lr: float = 3.0
    warmup: int = 30
    weight_decay: float = 0.1
    keep: float = 0.5
    full_from: float = 0.85
    frozen_text: bool = False


def train(model: Any, words: Words, scenes: Scenes, recipe: Recipe, folder: Path, *, threads: int = 2) -> None:
    """Train, going on from the state in the folder if there is one.

    Writes `log.jsonl` (a line a step) and `state.safetensors` (every two minutes and at the end).

    Raises:
        ValueError: the state in the folder is of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = 0.0  # see _settle_norms
    with _pool(threads) as pool:
        optimiser = Optimiser(
            _trained(model, recipe), pool, weight_decay=recipe.weight_decay, matrix_lr=recipe.matrix_lr
        )
        first = _restore(model, optimiser, recipe, folder)
        trainer = _Trainer(model, words, optimiser, recipe, pool, threads)
        _run(trainer, _ahead(scenes, recipe, first), first, folder)
    if any(isinstance(module, BatchNorm2d) for module in model.modules()):
        _settle_norms(model, scenes, recipe)
    model.eval()


def _run(trainer: _Trainer, batches: Iterator[tuple[int, Batch]], first: int, folder: Path) -> None:
    """All steps from `first`, with a log and a state every two minutes."""
    _cut_log(folder / "log.jsonl", first)
    saved = start = time.monotonic()
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        for step, batch in batches:
            line = {"step": step, **trainer.step(step, batch), "seconds": round(time.monotonic() - start, 2)}
            log.write(json.dumps(line) + "\n")
            log.flush()
            if time.monotonic() - saved > _SAVE_EVERY_S or step == trainer.recipe.steps - 1:
                _save(trainer, folder, step + 1)
                saved = time.monotonic()


def _settle_norms(model: Any, scenes: Scenes, recipe: Recipe) -> None:
    """Statistics of batch norms as plain means over fresh batches (Wu and Johnson, 2021).

    They are not gathered while training: two workers would write them in whichever order.
    """
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean
    with torch.no_grad():
        for i in range(_NORM_BATCHES):
            encode_images(model.train(), scenes.batch(recipe.steps + 1 + i, recipe.batch).images)


def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers whose own operations run on one thread: they meet twice a step, not at every operation."""
    torch.set_num_threads(1)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def _ahead(scenes: Scenes, recipe: Recipe, first: int) -> Iterator[tuple[int, Batch]]:
    """Numbered batches, each composed while the one before is in use."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        coming = pool.submit(scenes.batch, first, recipe.batch)
        for step in range(first, recipe.steps):
            batch = coming.result()
            coming = pool.submit(scenes.batch, step + 1, recipe.batch)
            yield step, batch


@dataclass
class _Trainer:
    """Takes steps. A batch is encoded in parts, a part a worker; the loss is over all of them together.

    Two parts add to each gradient in whichever order: a sum of two is the same in both. More would not be.
    """

    model: Any
    words: Words
    optimiser: Optimiser
    recipe: Recipe
    pool: ThreadPoolExecutor
    parts: int

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """One optimiser step; gives the numbers of the log."""
        model = self.model.train()
        encoded = list(self.pool.map(self._encode, *self._split(step, batch)))
        image_Bd, text_Bd = (torch.cat([part[i].detach() for part in encoded]).requires_grad_() for i in (0, 1))
        target_BB = joint_positives(batch.captions, batch.names)
        self.optimiser.zero_grad()
        loss = contrastive_loss(image_Bd, text_Bd, model.logit_scale.exp(), target_BB)
        loss.backward()
        assert image_Bd.grad is not None and text_Bd.grad is not None
        grads = zip(image_Bd.grad.chunk(self.parts), text_Bd.grad.chunk(self.parts), strict=True)
        list(self.pool.map(_backward, encoded, grads))
        self.optimiser.step(_rate(self.recipe, step))
        with torch.no_grad():
            model.logit_scale.clamp_(0, _MOST_SCALE)
            hits = target_BB.gather(1, (image_Bd @ text_Bd.T).argmax(1, keepdim=True)) > 0
        return {
            "loss": round(loss.item(), 6),
            "accuracy": round(hits.float().mean().item(), 4),
            "scale": round(model.logit_scale.exp().item(), 3),
        }

    def _split(self, step: int, batch: Batch) -> tuple[Sequence[Any], ...]:
        """Images, token rows and seen patches of each part."""
        images = batch.images.chunk(self.parts)
        rows = [self.words.rows(text) for text in batch.captions]
        size = len(images[0])
        texts = [rows[i : i + size] for i in range(0, len(rows), size)]
        share = self.recipe.keep if step < self.recipe.full_from * self.recipe.steps else 1.0
        if share == 1:
            return images, texts, [None] * len(images)
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        return images, texts, some_patches(len(rows), share, generator).chunk(self.parts)

    def _encode(self, images: Tensor, rows: Sequence[Sequence[int]], kept: Tensor | None) -> tuple[Tensor, Tensor]:
        image_bd = encode_images(self.model, images, kept)
        with torch.set_grad_enabled(not self.recipe.frozen_text):
            return image_bd, encode_texts(self.model, rows)


def _backward(features: tuple[Tensor, Tensor], grads: tuple[Tensor, Tensor]) -> None:
    pairs = [(feature, grad) for feature, grad in zip(features, grads, strict=True) if feature.requires_grad]
    torch.autograd.backward([feature for feature, _ in pairs], [grad for _, grad in pairs])


def _rate(recipe: Recipe, step: int) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup)
    return recipe.lr * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def _trained(model: Any, recipe: Recipe) -> Mapping[str, torch.nn.Parameter]:
    names = dict(model.named_parameters())
    return {n: p for n, p in names.items() if not recipe.frozen_text or n.startswith(("visual.", "logit_scale"))}


def _save(trainer: _Trainer, folder: Path, steps: int) -> None:
    state = {f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    state = {name: tensor.contiguous() for name, tensor in (state | trainer.optimiser.state()).items()}
    path = folder / "state.safetensors"
    about = {"recipe": json.dumps(asdict(trainer.recipe)), "steps": str(steps)}
    save_file(state, path.with_suffix(".part"), about)
    path.with_suffix(".part").replace(path)


def _restore(model: Any, optimiser: Optimiser, recipe: Recipe, folder: Path) -> int:
    """Steps that are done."""
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        if json.loads(about["recipe"]) != asdict(recipe):
            raise ValueError(f"{path} is of another recipe: {about['recipe']}")
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    model.load_state_dict({n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")})
    optimiser.load(state)
    return int(about["steps"])


def _cut_log(path: Path, first: int) -> None:
    """Drop the lines of steps that are taken again."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(lines[:first]), encoding="utf-8")


def read_log(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a log."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
