"""Parameters that learn at their own rate: against torch's optimisers, through a run, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from tests.training.material import Hooked, config, log_lines, registered, runtime
from vlmprompt.api import ParameterGroup
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import PluginError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.dry_run import dry_run, report_lines
from vlmprompt.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors, set_learning_rate
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

HERE = __name__


class Grouped(CoOp):
    """CoOp with a map of the features, whose weight and bias learn in ways of their own."""

    groups: ClassVar[Any] = {
        "adapter": ParameterGroup(lr=10.0),
        "adapter.bias": ParameterGroup(lr=0.5, weight_decay=0.0),
    }

    def create(self) -> None:
        self.adapter = nn.Linear(4, 3)
        with torch.no_grad():
            for parameter in self.adapter.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
        super().create()

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        found: Mapping[str, ParameterGroup] = self.groups
        return found

    def loss(self, output: Any, labels: Any, **more: Any) -> Any:
        losses = super().loss(output, labels)
        extra = sum(parameter.square().sum() for parameter in self.adapter.parameters())
        return type(losses)(losses.total + extra, losses.parts)


def built(backbone: Backbone, cls: type[CoOp] = Grouped) -> Any:
    with registered("under_test", cls, module=HERE):
        return build_method("under_test", backbone, ("a fox", "a wolf"), {"n_ctx": 2})


def set_gradients(parameters: list[nn.Parameter], step: int) -> None:
    for parameter in parameters:
        parameter.grad = torch.linspace(step - 1.5, step + 1.0, parameter.numel()).reshape(parameter.shape)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"optimizer": "sgd", "momentum": 0.9}, lambda p: torch.optim.SGD(p, momentum=0.9)),
        ({"optimizer": "adam", "eps": 1e-3}, lambda p: torch.optim.Adam(p, eps=1e-3)),
        ({"optimizer": "adamw", "eps": 1e-4}, lambda p: torch.optim.AdamW(p, eps=1e-4)),
        ({"optimizer": "adam"}, torch.optim.Adam),
        ({"optimizer": "adamw"}, torch.optim.AdamW),
    ],
)
def test_each_group_is_torchs(tiny_backbone: Backbone, ours: dict[str, Any], theirs: Any) -> None:
    method, copy = built(tiny_backbone), built(tiny_backbone)
    optimizer = build_optimizer(method, TrainConfig(weight_decay=0.02, **ours))
    expected = theirs(
        [
            {"params": [copy.adapter.weight], "lr": 0.1 * 10, "weight_decay": 0.02},
            {"params": [copy.adapter.bias], "lr": 0.1 * 0.5, "weight_decay": 0.0},
            {"params": [copy.ctx], "lr": 0.1, "weight_decay": 0.02},
        ]
    )
    for step in range(3):
        set_learning_rate(optimizer, 0.1)
        set_gradients(list(method.parameters()), step)
        set_gradients(list(copy.parameters()), step)
        optimizer.step()
        expected.step()
    for (name, mine), other in zip(method.named_parameters(), copy.parameters(), strict=True):
        assert torch.equal(mine, other), name


def test_adam_puts_the_decay_into_the_gradient_by_hand(tiny_backbone: Backbone) -> None:
    # The first step of Adam on g = grad + wd p is lr * g / (|g| + eps): with eps = |g| half the rate.
    method = built(tiny_backbone, CoOp)
    with torch.no_grad():
        method.ctx.fill_(2.0)
    method.ctx.grad = torch.full_like(method.ctx, 0.3)
    optimizer = build_optimizer(method, TrainConfig(optimizer="adam", weight_decay=0.1, eps=0.5))
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    torch.testing.assert_close(method.ctx.detach(), torch.full_like(method.ctx, 2.0 - 0.1 / 2))


def test_state_is_kept_by_the_names_of_parameters(tiny_backbone: Backbone) -> None:
    one, two = built(tiny_backbone), built(tiny_backbone)
    settings = TrainConfig(optimizer="adam")
    ours, theirs = build_optimizer(one, settings), build_optimizer(two, settings)
    set_gradients(list(one.parameters()), 1)
    ours.step()
    kept = optimizer_tensors(ours, one)
    assert {name.rpartition("/")[0] for name in kept} == {"adapter.weight", "adapter.bias", "ctx"}
    assert kept["adapter.bias/exp_avg"].shape == (3,) and kept["ctx/exp_avg"].shape == one.ctx.shape
    two.load_state_dict(one.state_dict())
    load_optimizer_tensors(theirs, two, {name: tensor.clone() for name, tensor in kept.items()})
    for method, optimizer in ((one, ours), (two, theirs)):
        set_gradients(list(method.parameters()), 2)
        set_learning_rate(optimizer, 0.1)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_run_with_groups_resumes_to_the_same_bytes(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"optimizer": "adam", "eps": 1e-3, "schedule_unit": "step", "min_lr": 1e-4}
    with registered("under_test", Grouped, module=HERE):
        run = config(photos, method="under_test", views=1, warmup_epochs=0, **settings)
        whole = train(run, runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
        for progress in (Hooked(stop), None):
            try:
                place = tmp_path / "parts"
                train(run, runtime(tmp_path), out=place, backbone=tiny_backbone, resume="maybe", progress=progress)
            except KeyboardInterrupt:
                continue
    assert load_run(whole).digest == load_run(tmp_path / "parts").digest
    rates = [line["lr"] for line in log_lines(whole) if not line.get("epoch_end")]
    assert len(set(rates)) == 9 and rates[0] == 0.02 and log_lines(tmp_path / "parts") == log_lines(whole)
    assert "ctx/exp_avg" in Checkpoint.load(whole / "checkpoint.safetensors").optimizer
    assert "adam (eps 0.001), lr 0.02, cosine to 0.0001 by the step" in (whole / "MODEL_CARD.md").read_text()
    assert json.loads((whole / "run.json").read_text())["config"]["train"]["schedule_unit"] == "step"


def test_the_dry_run_shows_them(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with registered("under_test", Grouped, module=HERE):
        report = dry_run(config(photos, method="under_test", views=1), runtime(tmp_path), backbone=tiny_backbone)
    lines = report_lines(report)
    assert "learns    adapter.weight at 10 times the rate" in lines
    assert "learns    adapter.bias at 0.5 times the rate, weight decay 0" in lines
    assert not any(line.startswith("learns    ctx") for line in lines)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"adaptor": ParameterGroup()}, "names 'adaptor', which is no trainable parameter"),
        ({"adap": ParameterGroup()}, "names 'adap', which is no trainable parameter"),
        ({"ctx": ParameterGroup(lr=0.0)}, "gives lr = 0.0 for 'ctx'"),
        ({"ctx": ParameterGroup(weight_decay=-1.0)}, "gives weight_decay = -1.0 for 'ctx'"),
        ({"ctx": 10.0}, "gives a float for 'ctx'"),
        (["ctx"], "gives a list"),
    ],
)
def test_what_is_no_group(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, groups: Any, message: str) -> None:
    monkeypatch.setattr(Grouped, "groups", groups)
    with pytest.raises(PluginError) as caught:
        built(tiny_backbone)
    assert f"parameter_groups {message}" in caught.value.message
    if message.startswith("names 'adaptor'"):
        assert "trainable parameters: ctx, adapter.weight, adapter.bias" in str(caught.value.hint)
