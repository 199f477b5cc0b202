"""How much of a text step is kept for its backward pass: as much as the budget allows, and the same result always."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.text import budget, causal
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import UsageError

NAMES = [f"{a} {b}" for a in ("red", "old", "wild") for b in ("horse", "cat", "red panda", "tench")]
TOKENS = 24  # of a part: two or three classes under two prompts


class Living(TorchDispatchMode):
    """Bytes of all tensors made in here that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: list[tuple[StorageWeakRef, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self._made.append((StorageWeakRef(tensor.untyped_storage()), tensor.untyped_storage().nbytes()))
        return out

    def bytes(self) -> int:
        alive = {ref.cdata: size for ref, size in self._made if not ref.expired()}
        return sum(alive.values())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The classes of every part, each time that it is run."""
    monkeypatch.setattr(causal, "SUFFIX_TOKENS", (TOKENS * 64 // 512, 0))
    done: list[tuple[int, ...]] = []
    run = causal.CausalTower._suffixes

    def counted(self: Any, placement: Any, part: Any, *inputs: Tensor) -> Tensor:
        done.append(part.labels)
        return run(self, placement, part, *inputs)

    monkeypatch.setattr(causal.CausalTower, "_suffixes", counted)
    yield done
    done.clear()


def step(backbone: Backbone) -> tuple[Tensor, Tensor, int]:
    """Features (P,K,d), the gradient of the context, and bytes that live between the two passes."""
    ctx = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    classes = backbone.text.class_tokens(NAMES)
    with Living() as living:
        features = backbone.text.encode(TextPrompts(ctx), classes)
        held = living.bytes()
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (grad,) = torch.autograd.grad((features * weights).sum(), ctx)
    return features.detach(), grad, held


def test_the_budget_says_how_many_parts_are_computed_again(
    tiny_backbone: Backbone, runs: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def within(allowed: float) -> tuple[Tensor, Tensor, int]:
        monkeypatch.setattr(budget, "ON_CPU", allowed)
        runs.clear()
        return step(tiny_backbone)

    within(1e12)  # what is made once a label space is made here
    features, grad, most = within(1e12)
    parts = list(runs)
    assert len(parts) == len(set(parts)) == 6
    again_features, again_grad, least = within(0)
    assert [runs.count(part) for part in parts] == [2] * len(parts)  # the one that was counted is not run a third time
    a_part = (most - least) / len(parts)
    some_features, some_grad, held = within(3.5 * a_part)
    assert [runs.count(part) for part in parts] == [1, 2, 2, 2, 2, 1]  # the room of a third is for a part at a time
    assert least + a_part < held <= least + 2.5 * a_part
    for own in (again_features, some_features):
        assert torch.equal(own, features)
    for own in (again_grad, some_grad):
        torch.testing.assert_close(own, grad, rtol=1e-5, atol=1e-6)


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.device("cpu")
    assert budget.kept_bytes(here) == 2e9
    monkeypatch.setenv(budget.VARIABLE, "0.5")
    assert budget.kept_bytes(here) == 5e8
    for wrong in ("much", "-1", "inf", "nan"):
        monkeypatch.setenv(budget.VARIABLE, wrong)
        with pytest.raises(UsageError, match=f"VLMPROMPT_TEXT_MEMORY is '{wrong}'"):
            budget.kept_bytes(here)


def test_parameters_are_not_counted() -> None:
    """A linear map keeps its weight and its input, a product with itself its factor once."""
    x = torch.randn(4, 8, requires_grad=True)
    linear = torch.nn.Linear(8, 8)
    _, held = budget.counting(lambda: linear(x))
    assert held == 4 * 4 * 8
    _, held = budget.counting(lambda: x.exp().square())  # exp keeps what it gives, square what it is given
    assert held == 4 * 4 * 8
