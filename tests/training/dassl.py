"""Checkpoints as Dassl's trainers write them: the names of the codes' tensors, and all that is saved beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from vlmprompt.backbones.backbone import Backbone

LENGTH = 77


class ConstantWarmup(LRScheduler):
    """A constant rate, then what `successor` says; its state holds that one as an object, as Dassl's does."""

    def __init__(self, optimizer: torch.optim.Optimizer, successor: LRScheduler, warmup_epoch: int, cons_lr: float):
        self.successor, self.warmup_epoch, self.cons_lr = successor, warmup_epoch, cons_lr
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [self.cons_lr for _ in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step()
        else:
            super().step()


def checkpoint(state: Mapping[str, Tensor], *, epoch: int = 3) -> dict[str, Any]:
    """What Dassl saves after some epochs, with the state of an optimiser that has a momentum."""
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.SGD([parameter], lr=0.002, momentum=0.9, weight_decay=5e-4)
    schedule = ConstantWarmup(optimizer, CosineAnnealingLR(optimizer, 50.0), 1, 1e-5)
    for _ in range(epoch):
        parameter.square().sum().backward()
        optimizer.step()
        schedule.step()
    states = {"optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}
    return {"state_dict": dict(state), "epoch": epoch, **states, "val_result": None}


def save(path: Path, state: Mapping[str, Tensor], **more: Any) -> Path:
    """A file of `checkpoint`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint(state, **more), path)
    return path


def texts(backbone: Backbone, n_texts: int, n_ctx: int) -> dict[str, Tensor]:
    """The token buffers that every prompt learner saves: the start-of-text token, and what follows the context."""
    start_D = backbone.text.start_embedding()
    assert start_D is not None
    suffix = torch.zeros(n_texts, LENGTH - 1 - n_ctx, len(start_D))
    return {"token_prefix": start_D.expand(n_texts, 1, -1).clone(), "token_suffix": suffix}


def whole_model(clip: Mapping[str, Tensor], learner: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a model whose towers are CLIP's, as the codes call them, around a prompt learner.

    Args:
        clip: the towers by OpenAI's names.
    """
    visual = {f"image_encoder.{k.removeprefix('visual.')}": t for k, t in clip.items() if k.startswith("visual.")}
    text = {f"text_encoder.{k}": t for k, t in clip.items() if not k.startswith(("visual.", "logit_scale"))}
    return {f"prompt_learner.{k}": t for k, t in learner.items()} | visual | text | {"logit_scale": torch.tensor(3.4)}
