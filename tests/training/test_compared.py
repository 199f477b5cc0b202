"""Losses whose gradients are compared: the log's numbers against each loss alone, and that training never feels it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.logged import STOPPED_AT, go, require_the_same_log
from tests.training.material import log_lines, registered
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.text import budget, causal, chunked
from vlmprompt.errors import PluginError
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.given import require_losses
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.training.compared import compare
from vlmprompt.training.loop import forward
from vlmprompt.training.team import Team

PLAIN = SimpleNamespace(scaler=None)
STEPS = 3  # of an epoch of `config`


class Plain(CoOp):
    """CoOp with a pull of its context towards 1; it keeps the context of each step."""

    seen: ClassVar[list[Tensor]] = []

    def loss(self, output: MethodOutput, labels: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> Losses:
        self.seen.append(self.ctx.detach().clone())
        ce = super().loss(output, labels).total
        return Losses(ce + 3 * self.pull(), {"ce": ce.detach()})

    def pull(self) -> Tensor:
        return 0.5 * ((self.ctx - 1) ** 2).sum()  # its gradient is ctx - 1


class Comparing(Plain):
    """The same, and says what of it is compared."""

    def loss(self, output: MethodOutput, labels: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> Losses:
        losses = super().loss(output, labels)
        pull = 3 * self.pull()
        return replace(losses, compared={"pull": pull, "all": losses.total, "same": pull, "none": torch.zeros(())})


@pytest.fixture(autouse=True)
def _methods() -> Iterator[None]:
    Plain.seen.clear()
    with registered("plain", Plain, module=__name__), registered("comparing", Comparing, module=__name__):
        yield


def made(backbone: Backbone, kind: type[CoOp] = Comparing) -> Any:
    from vlmprompt.methods.config import CoOpConfig

    return kind(backbone, ["cat", "dog"], CoOpConfig(n_ctx=2), generator=torch.Generator().manual_seed(1)).train()


def given(method: CoOp) -> tuple[Losses, Any]:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = SimpleNamespace(views=(images,), labels_B=torch.tensor([0, 1, 0]), share=None, unlabelled=())
    return forward(method, batch, None)[1], batch  # type: ignore[arg-type]


def test_the_first_step_of_an_epoch_has_them_and_the_epoch_as_well(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    lines = log_lines(go(photos, tiny_backbone, tmp_path, "comparing"))
    steps = [line.get("gradients") for line in lines if "epoch_end" not in line]
    epochs = [line["gradients"] for line in lines if "epoch_end" in line]
    assert [own is not None for own in steps] == [True, False, False] * 3
    assert epochs == steps[::STEPS]
    for found, ctx in zip(epochs, Plain.seen[::STEPS], strict=True):
        assert found["pull.norm"] == pytest.approx(3 * float((ctx.double() - 1).norm()), rel=1e-6)
        assert (found["same.ratio"], found["none.norm"], found["none.ratio"]) == (1.0, 0.0, 0.0)
        assert found["all.ratio"] == pytest.approx(found["all.norm"] / found["pull.norm"]) and found["all.norm"] > 0
        assert "pull.ratio" not in found


def test_norms_are_those_of_each_loss_alone(tiny_backbone: Backbone) -> None:
    method = made(tiny_backbone)
    losses, batch = given(method)
    found = {name: float(value) for name, value in compare(method, losses, batch, Team(), PLAIN).items()}
    total = given(method)[0].total
    (expected,) = torch.autograd.grad(total, [method.ctx])
    assert found["all.norm"] == pytest.approx(float(expected.double().norm()), rel=1e-9)
    assert found["pull.norm"] == pytest.approx(3 * float((method.ctx.detach().double() - 1).norm()), rel=1e-6)
    assert method.ctx.grad is None
    losses.total.backward()  # the graph is still there
    assert torch.equal(method.ctx.grad, expected)


def test_in_fp16_gradients_are_scaled_on_the_way_and_told_as_they_are(tiny_backbone: Backbone) -> None:
    method, seen = made(tiny_backbone), []
    losses, batch = given(method)
    method.ctx.register_hook(lambda grad: seen.append(float(grad.norm())))
    scaled = SimpleNamespace(scaler=SimpleNamespace(get_scale=lambda: 4096.0))
    plain, found = (compare(method, losses, batch, Team(), how) for how in (PLAIN, scaled))
    assert {k: float(v) for k, v in found.items()} == pytest.approx({k: float(v) for k, v in plain.items()}, rel=1e-5)
    assert seen[3:] == pytest.approx([4096 * norm for norm in seen[:3]], rel=1e-5) and len(seen) == 6


@pytest.mark.parametrize("parts", ["one part", "kept parts", "parts computed again"])
def test_training_is_the_same_to_the_bit(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: str
) -> None:
    """Also where the text tower keeps no activations: its backward pass then runs three times."""
    again: list[int] = []
    if parts != "one part":
        monkeypatch.setattr(causal, "SUFFIX_TOKENS", (1, 0))
        monkeypatch.setenv(budget.VARIABLE, "0" if parts == "parts computed again" else "1")
    run_parts = chunked.run_parts

    def counted(parts: Any, *given: Any) -> Tensor:
        again.append(len(parts))
        return run_parts(parts, *given)

    monkeypatch.setattr(chunked, "run_parts", counted)
    ours, theirs = (go(photos, tiny_backbone, tmp_path, method) for method in ("comparing", "plain"))
    assert bool(again) == (parts == "parts computed again")
    mine, other = (load_file(run / "checkpoint.safetensors") for run in (ours, theirs))
    assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in other)
    stripped = [{key: value for key, value in line.items() if key != "gradients"} for line in log_lines(ours)]
    assert stripped == log_lines(theirs) and any("gradients" in line for line in log_lines(ours))


@pytest.mark.parametrize("step", STOPPED_AT)
def test_a_resumed_run_has_the_same_log(photos: Path, tiny_backbone: Backbone, tmp_path: Path, step: int) -> None:
    require_the_same_log(photos, tiny_backbone, tmp_path, "comparing", step)


class Unlabelled(Comparing):
    """With a loss of images without labels."""

    reads_unlabelled = True

    def unlabelled_loss(self, output: MethodOutput) -> Losses:
        return Losses(output.logits.logsumexp(dim=-1).mean())


def test_images_without_labels_leave_them_there(tiny_backbone: Backbone) -> None:
    method = made(tiny_backbone, Unlabelled)
    _, batch = given(method)
    batch.unlabelled = batch.views
    losses = forward(method, batch, None)[1]
    assert "unlabelled" in losses.parts and set(losses.compared) == {"pull", "all", "same", "none"}


@pytest.mark.parametrize(("wrong", "said"), [(torch.ones(2), "has shape (2,)"), (1.0, "is a float")])
def test_what_is_compared_is_a_scalar(wrong: Any, said: str) -> None:
    losses: Sequence[Any] = [Losses(torch.ones(()), compared={"pull": wrong})]
    with pytest.raises(PluginError) as caught:
        require_losses(SimpleNamespace(told="method x"), losses[0])
    assert f"a loss whose 'pull' {said}" in caught.value.message
