"""Checkpoints: safetensors with a JSON header, from which a run is used and from which it goes on.

Tensors: the trained state by its own names, `optimizer/<parameter>/<slot>`, `rng/method` (uint8); in a run that is to
end with its best state, `best/<name>` is that state so far, until the run ends and it is the trained state. The header
is the single metadata entry "vlmprompt", so that equal content gives equal bytes; it holds no time, but a digest
of the tensors and of all else that it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import safetensors
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save
from torch import Tensor

from vlmprompt.atomic import write_atomic
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.data.configured import StoredConfig
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

HEADER_KEY = "vlmprompt"
OPTIMIZER = "optimizer/"
BEST = "best/"
RNG = "rng/"
AGAIN = "restore it, or train again with --force"


class Position(BaseModel):
    """Where in a run: what the sampler, the log and the running sums of an epoch need to go on.

    Attributes:
        epoch: 0-based; equal to the number of epochs at the end.
        step: optimiser steps taken in this epoch.
        total: optimiser steps taken in all.
        log_lines: lines of the log up to here.
        seen, correct, loss_sum: images of this epoch so far, how many were right, their summed loss.
        loss, accuracy: means over the last whole epoch.
        val_accuracy: on the validation images after that epoch; None where they were not measured then.
        best_epoch, best_accuracy: the best measurement so far, after so many epochs; of equal ones the first.
        waited: measurements since then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: int = 0
    step: int = 0
    total: int = 0
    log_lines: int = 0
    seen: int = 0
    correct: int = 0
    loss_sum: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    val_accuracy: float | None = None
    best_epoch: int | None = None
    best_accuracy: float | None = None
    waited: int = 0

    def after(self, loss: float, images: int, correct: int) -> Position:
        """The position one step on, with the step's mean loss."""
        counts = {"step": self.step + 1, "total": self.total + 1}
        sums = {"seen": self.seen + images, "correct": self.correct + correct}
        return self.model_copy(update={**counts, **sums, "loss_sum": self.loss_sum + loss * images})

    def next_epoch(self) -> Position:
        """The position at the start of the next epoch."""
        means = {"loss": self.loss_sum / self.seen, "accuracy": self.correct / self.seen, "val_accuracy": None}
        start = {"epoch": self.epoch + 1, "step": 0, "seen": 0, "correct": 0, "loss_sum": 0.0}
        return self.model_copy(update=start | means)

    def measured(self, accuracy: float) -> Position:
        """The same position, its accuracy on the validation images known."""
        better = self.best_accuracy is None or accuracy > self.best_accuracy
        found = {"best_epoch": self.epoch, "best_accuracy": accuracy, "waited": 0}
        waiting = {"waited": self.waited + 1}
        return self.model_copy(update={"val_accuracy": accuracy, **(found if better else waiting)})


class Header(BaseModel):
    """What a checkpoint says of itself; the seed of random weights is in the configuration.

    Attributes:
        content: of a file, the digest of everything in it; older versions wrote none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    config: StoredConfig
    class_names: tuple[str, ...]
    digests: dict[str, str]
    versions: dict[str, str]
    position: Position = Position()
    scaler: dict[str, int | float] | None = None
    content: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A state of a run.

    Attributes:
        state: trained state by name.
        optimizer: see `optim.optimizer_tensors`; empty for methods without a loop.
        rng: generator states (uint8) by name.
        best: the best trained state before the end of a run that keeps it; empty in others.
    """

    header: Header
    state: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    best: Mapping[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it, atomically, into a folder that is there.

        Raises:
            InputError: it cannot be written; an older checkpoint there stays.
        """
        named = {
            **self.state,
            **{OPTIMIZER + name: tensor for name, tensor in self.optimizer.items()},
            **{RNG + name: tensor for name, tensor in self.rng.items()},
            **{BEST + name: tensor for name, tensor in self.best.items()},
        }
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in named.items()}
        content = _content_digest(self.header.model_dump_json(), tensors)
        header = self.header.model_copy(update={"content": content}).model_dump_json()
        write_atomic(path, save(tensors, {HEADER_KEY: header}), make_folder=False)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read one, onto the CPU.

        Raises:
            InputError: the file is missing, damaged, or no checkpoint of this toolkit.
        """
        try:
            with safetensors.safe_open(regular(path), framework="pt") as file:
                text = (file.metadata() or {})[HEADER_KEY]
                header = Header.model_validate_json(text)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except FileNotFoundError as error:
            raise InputError(f"there is no checkpoint {path}", hint=AGAIN) from error
        except (OSError, safetensors.SafetensorError, KeyError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} is damaged, or no checkpoint of this version: {reason}", hint=AGAIN) from error
        if header.content not in (None, _content_digest(text, tensors)):
            raise InputError(f"{path} is damaged: its content is not that of its digest", hint=AGAIN)
        state = {name: tensor for name, tensor in tensors.items() if not name.startswith((OPTIMIZER, RNG, BEST))}
        header = header.model_copy(update={"content": None})
        return cls(header, state, _below(tensors, OPTIMIZER), _below(tensors, RNG), _below(tensors, BEST))

    @staticmethod
    def lies_at(path: Path) -> bool:
        """Whether a file says that it is a checkpoint of this toolkit, of whatever version."""
        try:
            with safetensors.safe_open(regular(path), framework="pt") as file:
                return HEADER_KEY in (file.metadata() or {})
        except (OSError, safetensors.SafetensorError):
            return False


def file_digest(path: Path) -> str:
    """SHA-256 of a checkpoint's bytes: equal runs have equal digests.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(regular(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"run {path.parent} has no readable checkpoint: {error.strerror}", hint=AGAIN) from error


def _content_digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Of a header as it was written, since a later version would write it with more keys."""
    said = {key: value for key, value in json.loads(header).items() if key != "content"}
    return hashlib.sha256(f"{json.dumps(said, sort_keys=True)}{tensors_digest(tensors)}".encode()).hexdigest()


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
