"""What a method says of its gradients: in the log's steps, as means of its epochs, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.training.logged import STOPPED_AT, go, require_the_same_log
from tests.training.material import STEPS, config, log_lines, registered
from tests.training.observing import Observing, Undefined
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.coop import CoOp
from vlmprompt.training.gradients import EpochMeans, observed


@pytest.fixture(autouse=True)
def _methods() -> Iterator[None]:
    module = "tests.training.observing"
    Observing.seen.clear()
    with registered("observing", Observing, module=module):
        yield


def test_steps_hold_the_values_and_epochs_their_means(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    lines = log_lines(go(photos, tiny_backbone, tmp_path, "observing"))
    steps = [line["gradients"]["norm"] for line in lines if "epoch_end" not in line]
    epochs = [line["gradients"]["norm"] for line in lines if "epoch_end" in line]
    assert steps == [float(value) for value in Observing.seen] and len(steps) == STEPS and min(steps) > 0
    assert epochs == [(steps[i] + steps[i + 1] + steps[i + 2]) / 3 for i in (0, 3, 6)]


@pytest.mark.parametrize("step", STOPPED_AT)
def test_a_resumed_run_has_the_same_means(photos: Path, tiny_backbone: Backbone, tmp_path: Path, step: int) -> None:
    require_the_same_log(photos, tiny_backbone, tmp_path, "observing", step)


def test_looking_changes_nothing_that_is_learned(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    """The same tensors as of the same method that says nothing, whose log has no such key."""
    from safetensors.torch import load_file

    seen, plain = (go(photos, tiny_backbone, tmp_path, method) for method in ("observing", "coop"))
    ours, theirs = (load_file(run / "checkpoint.safetensors") for run in (seen, plain))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any("gradients" in line for line in log_lines(plain))
    stripped = [{key: value for key, value in line.items() if key != "gradients"} for line in log_lines(seen)]
    assert stripped == log_lines(plain)


def test_a_value_that_is_no_number_is_null_and_counts_for_nothing(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    with registered("undefined", Undefined, module="tests.training.observing"):
        lines = log_lines(go(photos, tiny_backbone, tmp_path, "undefined"))
    found = [line["gradients"] for line in lines if line["epoch"] == 1]
    assert [own["second"] for own in found] == [None, 2.0, 4.0, 3.0]  # the mean of the two
    assert [own["never"] for own in found] == [None] * 4


def test_means_by_hand() -> None:
    means = EpochMeans()
    assert means.means() == {}
    means.add({"a": 1.0, "b": None})
    means.add({"a": 2.0, "b": float("inf")})
    means.add({"a": float("nan"), "b": 5.0})
    assert means.means() == {"a": 1.5, "b": 5.0}
    records = [
        {"epoch": 1, "gradients": {"a": 9.0}},
        {"epoch": 1, "epoch_end": True, "gradients": {"a": 9.0}},
        {"epoch": 2, "gradients": {"a": 1.0}},
        {"epoch": 2},
        {"epoch": 2, "gradients": {"a": 3.0}},
    ]
    assert EpochMeans.of(records, 2).means() == {"a": 2.0}


def test_gradients_are_no_longer_scaled_and_others_are_left_alone(tiny_backbone: Backbone) -> None:
    """In fp16 the loss is scaled for the backward pass; whoever looks at gradients sees them as they are."""
    events: list[str] = []

    class Looking(CoOp):
        def observe_gradients(self) -> Mapping[str, Tensor]:
            events.append(f"looked, graph {torch.is_grad_enabled()}")
            return {"x": torch.ones(())}

    options = config(Path("x")).options
    from vlmprompt.methods.config import CoOpConfig

    accelerator = SimpleNamespace(unscale_gradients=lambda optimizer: events.append(f"unscaled {optimizer}"))
    methods = [cls(tiny_backbone, ["cat", "dog"], CoOpConfig(**options)) for cls in (CoOp, Looking)]
    found = [observed(method, accelerator, "optimizer") for method in methods]  # type: ignore[arg-type]
    assert found[0] == {} and found[1]["x"] == 1
    assert events == ["unscaled optimizer", "looked, graph False"]
