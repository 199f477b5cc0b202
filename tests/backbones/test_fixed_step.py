"""A step of a frozen label space is the same calls each time: nothing is read back from the device or sent to it.

That is what a CUDA graph needs of it. Here the calls are watched on a CPU, in both passes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.deltas import LowRank, TowerDeltas
from vlmprompt.backbones.types import ClassTokens, TextPrompts

NAMES = [f"{a} {b}" for a in ("red", "old", "wild") for b in ("horse", "cat", "red panda", "tench")]
aten = torch.ops.aten
# What waits for the device, what has a shape that only the device knows, and what makes a tensor of the host's numbers.
READS = {aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.unique_consecutive}
READS |= {aten._unique2, aten.unique_dim, aten.equal, aten.lift_fresh}


class Watching(TorchDispatchMode):
    """Refuses what a graph cannot hold, and keeps the names and shapes of all calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[object] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in READS, f"{func} is called within a step"
        masks = [a for a in (args[1] if func.overloadpacket is aten.index else ()) if a is not None]
        assert all(mask.dtype is not torch.bool for mask in masks), "rows are chosen by a mask"
        self.calls.append((str(func), [tuple(a.shape) for a in args if isinstance(a, Tensor)]))
        return func(*args, **(kwargs or {}))


def calls(backbone: Backbone, prompts: TextPrompts, classes: ClassTokens, learned: list[Tensor]) -> list[object]:
    """Those of a step, forward and backward."""
    with Watching() as watching:
        features = backbone.text.encode(prompts, classes)
        torch.autograd.grad(features.sum(), learned)
    return watching.calls


@pytest.mark.parametrize("kind", ["context", "each class", "words", "positions", "deep", "low rank"])
def test_a_step_reads_nothing_back(tiny_backbone: Backbone, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = tiny_backbone.text.class_tokens(NAMES)
    shape = (len(NAMES), 2, 4, 64) if kind == "each class" else (2, 4, 64)

    def prompts() -> tuple[TextPrompts, list[Tensor]]:
        ctx = torch.randn(shape, generator=generator).requires_grad_()
        if kind == "each class":
            return TextPrompts(ctx, scope="class"), [ctx]
        if kind == "words":
            return TextPrompts(ctx, words="of a"), [ctx]
        if kind == "positions":
            return TextPrompts(ctx, position=("front", "end")), [ctx]
        more = torch.randn(2, 64, generator=generator).requires_grad_()
        if kind == "deep":
            return TextPrompts(ctx, deep={1: more[None]}), [ctx, more]
        if kind == "low rank":
            delta = LowRank(more, torch.ones(64, 2))
            return TextPrompts(ctx, deltas=TowerDeltas({0: {"q": delta}})), [ctx, more]
        return TextPrompts(ctx), [ctx]

    first = prompts()
    features = tiny_backbone.text.encode(first[0], classes)
    torch.autograd.grad(features.sum(), first[1])  # what is made once a label space is made in a first step
    recorded = calls(tiny_backbone, first[0], classes, first[1])
    again = prompts()
    assert calls(tiny_backbone, again[0], classes, again[1]) == recorded and len(recorded) > 50


def test_the_watch_sees_a_read() -> None:
    for read in (lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0], lambda _: torch.tensor([1.0])):
        x = torch.ones(3)
        with pytest.raises(AssertionError, match=r"within a step|by a mask"), Watching():
            read(x)
