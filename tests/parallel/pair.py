"""Two processes of one run, which do all that the tests of this folder look at, one thing after the other."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.processes import Process
from tests.training.material import Breaking, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.data import decoding
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError, Interrupted, VlmPromptError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.parallel.classes import ClassShares
from vlmprompt.parallel.group import Group
from vlmprompt.parallel.meeting import join
from vlmprompt.progress import SilentProgress
from vlmprompt.testing import tiny_clip
from vlmprompt.training.run import train

NAMES = ("red fox", "frog", "blue whale of the sea", "wolf", "a grey wolf")
# Those that divide a batch, of which the last has 2 images of 12, or 1, which leaves one process without any.
TRAINED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gallop": ({"allow_equal_scales": True}, {"batch_size": 11}),
    "bloom": ({"n_ctx": 2}, {"batch_size": 5, "lr": 0.002}),
    "coop": (
        {"class_specific": True, "n_ctx": 2},
        {
            "batch_size": 5,
            "views": 0,
            "class_weights": {"red fox": 3.0},
            "validate_every": 1,
            "keep": "best",
            "eval_batch_size": 3,
        },
    ),
    "dual_pt": ({"n_ctx": 2}, {"batch_size": 5}),
    "plot": ({"n_ctx": 2}, {"batch_size": 5}),
}
TEXTS: dict[str, dict[str, Any]] = {
    "coop": {"class_specific": True, "n_ctx": 2},
    "gallop": {"allow_equal_scales": True},
    "tcp": {"n_ctx": 2},
}


class Saying(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def towers() -> Backbone:
    """The same in each process."""
    return Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny-vit")


def settings(photos: Path, name: str) -> RunConfig:
    """A run of a few steps."""
    options, given = TRAINED[name]
    if name == "dual_pt":
        given = given | {"descriptions": str(photos.parent / "descriptions.jsonl")}
    complete = method_config(name, options).model_dump(mode="json")
    return config(photos, **{"epochs": 2, "warmup_epochs": 0, "lr": 0.005, **given}).model_copy(
        update={"method": name, "options": complete}
    )


def text_of(method: Any, weight_PKd: Tensor) -> dict[str, Tensor]:
    """Text features, and the gradients of a loss of them, by name."""
    features_PKd = method.encode_text().features_PKd
    (features_PKd * weight_PKd[: len(features_PKd)]).sum().backward()
    grads = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {"features": features_PKd.detach(), **grads}


def text_method(name: str) -> Any:
    """A method over classes that two processes cannot share evenly; in float64, where nothing hides in rounding."""
    exact = Backbone.from_model(tiny_clip().double(), open_clip.SimpleTokenizer(), name="exact")
    method = build_method(name, exact, NAMES, TEXTS[name]).double().train()
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return method


def weights(method: Any) -> Tensor:
    """Of features in a made-up loss."""
    shape = (16, len(NAMES), method.backbone.text.joint_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def start(folder: Path, photos: Path) -> list[Process]:
    """Both of them."""
    found = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # they meet in a file
        found.append(Process(main, folder, photos, env={**os.environ, **place, **meeting}))
    return found


def main(folder: Path, photos: Path) -> None:
    """What one of them does; each thing leaves what it has found in a file of its own."""
    group = join(f"file://{folder / 'meeting'}")
    cases: Mapping[str, Callable[[], Any]] = {
        "text": lambda: _texts(group, folder),
        "differ": lambda: _differ(group),
        "train": lambda: _trained(folder, photos),
        "stop": lambda: _stopped(group, folder, photos),
        "resume": lambda: _train(settings(photos, "gallop"), folder / "begun", resume=True),
        "evaluate": lambda: len(evaluate(folder / "measured", "accuracy", runtime(folder), backbone=towers())),
        "fail": lambda: _failed(group, folder, photos),  # the last, as it ends them
    }
    for name, case in cases.items():
        (folder / f"{name}-{group.rank}.json").write_text(json.dumps(case()))


def _texts(group: Group, folder: Path) -> None:
    """Each process has a part of the loss."""
    for name in TEXTS:
        method = text_method(name)
        method.class_shares = ClassShares(group)
        found = text_of(method, (group.rank + 1) / 3 * weights(method))
        save_file(
            {key: own.contiguous() for key, own in found.items()}, folder / f"text-{name}-{group.rank}.safetensors"
        )


def _differ(group: Group) -> str:
    try:
        group.require_same("settings", f"of {group.rank}", "give the same")
    except InputError as error:
        return error.told
    return ""


def _train(config: RunConfig, out: Path, resume: bool = False) -> list[str]:
    """Train; gives what the first process said."""
    said = Saying()
    train(config, runtime(out.parent), out=out, resume=resume, progress=said, backbone=towers())
    return said.texts


def _trained(folder: Path, photos: Path) -> dict[str, list[str]]:
    return {name: _train(settings(photos, name), folder / name) for name in TRAINED}


def _stopped(group: Group, folder: Path, photos: Path) -> list[str]:
    """A signal reaches the second process in its third step."""
    if group.rank == 1:
        Breaking.act = staticmethod(lambda: os.kill(os.getpid(), signal.SIGINT))
    with registered("breaking", Breaking):
        try:
            return _train(config(photos, method="breaking", lr=0.005), folder / "stopped")
        except Interrupted as error:
            return [error.message]


def _failed(group: Group, folder: Path, photos: Path) -> tuple[str, str]:
    """The second process cannot read a photo, which the other can."""
    if group.rank == 1:
        decoding.read_image = _unreadable
    try:
        _train(settings(photos, "coop"), folder / "failed")
    except VlmPromptError as error:
        return type(error).__name__, error.told
    return "", ""


def _unreadable(record: Record) -> Any:
    raise InputError(f"cannot read {record.id}", hint="look at it")
