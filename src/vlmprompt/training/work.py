"""What a training loop works on, and its state on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from vlmprompt.claims.claim import Claim
from vlmprompt.config.models import TrainConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.batches import Batches
from vlmprompt.training.checkpoint import Checkpoint, Header, Position
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.log import TrainLog
from vlmprompt.training.optim import load_optimizer_tensors, optimizer_tensors
from vlmprompt.training.rescue import keep
from vlmprompt.training.schedule import Plan
from vlmprompt.training.team import Team
from vlmprompt.training.trackers.contract import TrackedRun
from vlmprompt.training.trackers.following import Trackers
from vlmprompt.training.upgraded import load_state
from vlmprompt.training.validation import Validation


@dataclass(frozen=True)
class Work:
    """All that a loop needs.

    Attributes:
        method: with fresh initial values, on its device.
        image_ids: names of the training images, for errors.
        weights_K: of classes in the loss; None where all weigh the same.
        validation: measures the validation images; None where nobody asks for it.
        header: of the checkpoints, but for position and scaler.
        folder: where they and the log go.
        claim: on it.
        trackers: told of every line of the log.
        team: the processes that take each step together.
    """

    method: PromptMethod
    batches: Batches
    plan: Plan
    train: TrainConfig
    accelerator: Any
    image_ids: Sequence[str]
    weights_K: Tensor | None
    validation: Validation | None
    header: Header
    folder: RunFolder
    claim: Claim
    trackers: Trackers
    team: Team


def tracked(work: Work, position: Position, log: TrainLog) -> TrackedRun:
    """What trackers are told at the start."""
    return TrackedRun(
        name=work.folder.path.resolve().name,
        folder=work.folder.path,
        config=work.header.config.model_dump(mode="json"),
        class_names=work.header.class_names,
        steps=position.total,
        records=log.records,
    )


def restore(work: Work, optimizer: Optimizer, resumed: Checkpoint | None) -> tuple[Position, Mapping[str, Tensor]]:
    """Put method, optimiser, scaler and random generator where the checkpoint was; the start without one.

    Returns:
        The position, and the best state so far where one is kept.
    """
    if resumed is None:
        return Position(), {}
    load_state(work.method, resumed)
    load_optimizer_tensors(optimizer, work.method, resumed.optimizer)
    if resumed.header.scaler is not None and work.accelerator.scaler is not None:
        work.accelerator.scaler.load_state_dict(resumed.header.scaler)
    return resumed.header.position, resumed.best


def save(work: Work, optimizer: Optimizer, position: Position, best: Mapping[str, Tensor], log: TrainLog) -> Position:
    """Write a checkpoint; gives the position with the number of log lines that belong to it."""
    position = position.model_copy(update={"log_lines": log.lines})
    scaler = work.accelerator.scaler
    header = _now(work.header, work.method, position).model_copy(
        update={"scaler": None if scaler is None else scaler.state_dict()}
    )
    state, slots = work.method.trainable_state(), optimizer_tensors(optimizer, work.method)
    rng = {"method": work.method.rng_state()}
    keep(Checkpoint(header, state, slots, rng, best), work.folder, work.claim, log)
    return position


def _now(header: Header, method: PromptMethod, position: Position) -> Header:
    """A header at a position of the run, with the teachers that the method has asked for so far."""
    digests = {**header.digests, **method.teachers.digests}
    return header.model_copy(update={"position": position, "digests": digests})


def end_with(work: Work, best: Mapping[str, Tensor], position: Position, log: TrainLog) -> Position:
    """Make the best state the run's; of the optimiser, which is at the last one, nothing stays."""
    work.method.load_trainable_state(best)
    keep_method(work.method, work.header, work.folder, work.claim, position, log)
    return position


def keep_method(
    method: PromptMethod,
    header: Header,
    folder: RunFolder,
    claim: Claim,
    position: Position | None = None,
    log: TrainLog | None = None,
) -> None:
    """Write a checkpoint of a method outside its loop, without an optimiser."""
    header = _now(header, method, position or Position())
    rng = {"method": method.rng_state()}
    keep(Checkpoint(header, method.trainable_state(), {}, rng), folder, claim, log)
