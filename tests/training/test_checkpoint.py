"""Checkpoints: what they hold, that equal states are equal bytes, and what happens to damaged or unwritable ones."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.training.material import config
from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError
from vlmprompt.training.checkpoint import Checkpoint, Header, Position
from vlmprompt.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors, set_learning_rate


class Two(nn.Module):
    """The part of a method that the optimiser sees: two parameters, one frozen between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.frozen = nn.Parameter(torch.tensor([5.0]), requires_grad=False)
        self.second = nn.Parameter(torch.tensor([[3.0]]))

    def trainable_parameters(self) -> Any:
        return (p for p in self.parameters() if p.requires_grad)

    def parameter_groups(self) -> dict[str, Any]:
        return {}

    def blamed(self) -> Any:
        return nullcontext()


def header(**changes: Any) -> Header:
    made = Header(
        config=config(Path("photos")),
        class_names=("naïve cat", "dog"),
        digests={"dataset": "d", "backbone": "b"},
        versions={"torch": "2"},
    )
    return made.model_copy(update=changes)


def checkpoint(**changes: Any) -> Checkpoint:
    return Checkpoint(
        header(**changes),
        {"ctx": torch.arange(6.0).view(2, 3).T, "count": torch.tensor(3)},
        {"ctx/momentum_buffer": torch.ones(3, 2)},
        {"method": torch.Generator().manual_seed(4).get_state()},
    )


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    position = Position(epoch=2, step=1, total=7, log_lines=9, seen=4, correct=3, loss_sum=0.1 + 0.2, loss=1 / 3)
    saved = checkpoint(position=position, scaler={"scale": 65536.0, "_growth_tracker": 3})
    saved.save(tmp_path / "a.safetensors")
    loaded = Checkpoint.load(tmp_path / "a.safetensors")
    assert isinstance((loaded.header.scaler or {})["_growth_tracker"], int)
    assert loaded.header == saved.header and loaded.header.position.loss_sum == 0.1 + 0.2
    for part in ("state", "optimizer", "rng"):
        ours, theirs = getattr(saved, part), getattr(loaded, part)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert loaded.rng["method"].dtype == torch.uint8
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert set(load_file(tmp_path / "a.safetensors")) == {"ctx", "count", "optimizer/ctx/momentum_buffer", "rng/method"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"c\.safetensors is damaged"):
        Checkpoint.load(path)


def test_truncated_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged"):
        Checkpoint.load(path)
    with pytest.raises(InputError, match="no checkpoint"):
        Checkpoint.load(tmp_path / "other")


def test_a_changed_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """Flipped so that all numbers stay finite and the header stays readable."""
    path = tmp_path / "c.safetensors"
    checkpoint(position=Position(epoch=3)).save(path)
    whole = path.read_bytes()
    value, epoch = whole.index(torch.tensor(5.0).numpy().tobytes()), whole.index(b'\\"epoch\\":3') + 10
    for place, new in ((value + 2, whole[value + 2] ^ 1), (epoch, ord("2")), (whole.index(b"dog"), ord("h"))):
        path.write_bytes(whole[:place] + bytes([new]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"c\.safetensors is damaged: its content is not that of its digest"):
            Checkpoint.load(path)
    path.write_bytes(whole)
    assert Checkpoint.load(path).header.position.epoch == 3


def test_a_checkpoint_of_an_older_version_has_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    told = json.loads(header().model_dump_json())
    del told["content"], told["config"]["random_weights"]  # a key that came later must not make it damaged either
    save_file({"ctx": torch.ones(2)}, path, {"vlmprompt": json.dumps(told)})
    loaded = Checkpoint.load(path)
    assert loaded.header == header() and loaded.state["ctx"].tolist() == [1, 1]


def step(model: Two, optimizer: Any) -> None:
    (model.first.sum() * model.second.sum()).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_sgd_by_hand() -> None:
    """Two steps of SGD with momentum and weight decay: v = g + wd p; p -= lr v; then v = 0.9 v + g + wd p."""
    model = Two()
    optimizer = build_optimizer(model, TrainConfig(lr=0.1, momentum=0.9, weight_decay=0.5))  # type: ignore[arg-type]
    step(model, optimizer)  # d/d first = 3, d/d second = 1 + 2
    assert model.first.tolist() == pytest.approx([1 - 0.1 * 3.5, 2 - 0.1 * 4.0])  # 0.65, 1.6
    assert model.second.item() == pytest.approx(3 - 0.1 * 4.5)  # 2.55
    set_learning_rate(optimizer, 0.2)
    step(model, optimizer)  # first: v = 0.9 * 3.5 + 2.55 + 0.5 * 0.65 = 6.025
    assert model.first[0].item() == pytest.approx(0.65 - 0.2 * 6.025)
    assert model.frozen.item() == 5.0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizer_state_goes_on(name: str) -> None:
    train = TrainConfig(optimizer=name, lr=0.1)
    one, two = Two(), Two()
    ours, theirs = build_optimizer(one, train), build_optimizer(two, train)  # type: ignore[arg-type]
    assert optimizer_tensors(ours, one) == {}  # type: ignore[arg-type]
    for _ in range(3):
        step(one, ours)
    tensors = optimizer_tensors(ours, one)  # type: ignore[arg-type]
    slots = {"momentum_buffer"} if name == "sgd" else {"step", "exp_avg", "exp_avg_sq"}
    assert set(tensors) == {f"{p}/{slot}" for p in ("first", "second") for slot in slots}
    two.load_state_dict(one.state_dict())
    load_optimizer_tensors(theirs, two, {k: v.clone() for k, v in tensors.items()})  # type: ignore[arg-type]
    step(one, ours)
    step(two, theirs)
    assert torch.equal(one.first, two.first) and torch.equal(one.second, two.second)


def test_nothing_to_train() -> None:
    model = Two().requires_grad_(False)
    with pytest.raises(InputError, match="nothing to train"):
        build_optimizer(model, TrainConfig())  # type: ignore[arg-type]
