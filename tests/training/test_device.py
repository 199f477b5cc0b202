"""Devices, precisions, and gradient scaling."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from tests.processes import Process
from tests.training.material import STEPS, Hooked, config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError, Interrupted, UsageError
from vlmprompt.methods.coop import CoOp
from vlmprompt.testing import tiny_clip
from vlmprompt.training import run as run_module
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.device import make_accelerator, require_precision, resolve_device
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

CPU = torch.device("cpu")


def test_names_of_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    for name in ("gpu", "meta", ""):
        with pytest.raises(UsageError, match=f"unknown device '{name}'"):
            resolve_device(name)
    with pytest.raises(InputError, match="'cuda:99' is not available") as error:
        resolve_device("cuda:99")
    assert "--device" in str(error.value.hint)


def test_precisions_of_the_cpu(photos: Path, tmp_path: Path) -> None:
    require_precision(CPU, "fp32")
    require_precision(CPU, "bf16")
    with pytest.raises(InputError, match="device cpu cannot train in precision 'fp16'") as error:
        train(config(photos, precision="fp16", backbone="none"), runtime(tmp_path))  # before anything is loaded
    assert "--precision bf16" in str(error.value.hint)


def test_one_precision_a_process() -> None:
    first = make_accelerator(CPU, "fp32")
    assert first.device == CPU and make_accelerator(CPU, "fp32").device == CPU and first.scaler is None
    with pytest.raises(InputError, match=r"already trained .* than cpu, bf16") as error:
        make_accelerator(CPU, "bf16")
    assert "process of its own" in str(error.value.hint)


def train_in_bf16(photos: Path, runs: Path) -> None:
    """To be run in a process of its own; prints the loss."""
    towers = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer(), name="tiny-vit", precision="bf16")
    run = load_run(train(config(photos, precision="bf16"), runtime(runs), backbone=towers).run)
    method = run.build_method(towers)
    assert isinstance(method, CoOp) and method.ctx.dtype == torch.float32
    assert method(torch.zeros(1, 3, 32, 32)).logits.dtype == torch.float32
    print(run.info.metrics["loss"])


def test_bf16_trains_close_to_fp32(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    process = Process(train_in_bf16, photos, tmp_path)
    loss, errors = process.communicate()
    assert process.returncode == 0, errors
    exact = train(config(photos), runtime(tmp_path / "fp32"), backbone=tiny_backbone).metrics["loss"]
    assert float(loss) == pytest.approx(exact, rel=0.1) and float(loss) != exact


class Scaling:
    """What accelerate does in fp16, with torch's own scaler on the CPU."""

    def __init__(self) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        self.optimizer: Any = None

    def prepare(self, optimizer: Any) -> Any:
        self.optimizer, step = optimizer, optimizer.step

        def scaled_step() -> None:
            optimizer.step = step
            self.scaler.step(optimizer)
            self.scaler.update()
            optimizer.step = scaled_step

        optimizer.step = scaled_step
        return optimizer

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()


def test_the_state_of_the_scaler_is_resumed(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "make_accelerator", lambda device, precision: Scaling())
    whole = train(config(photos), runtime(tmp_path / "whole"), backbone=tiny_backbone).run
    scaler = Checkpoint.load(whole / "checkpoint.safetensors").header.scaler
    assert scaler is not None and scaler["scale"] == 1024.0 * 2 ** (STEPS // 2)  # doubled every 2 steps

    def interrupt(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config(photos), runtime(tmp_path / "broken"), progress=Hooked(interrupt), backbone=tiny_backbone)
    run = train(config(photos), runtime(tmp_path / "broken"), resume=True, backbone=tiny_backbone).run
    assert (run / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
