"""The first layer of whole texts, shared where tokens repeat: values and gradients of open_clip's own module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones.test_text import close
from tests.backbones.test_text_kinds import KINDS, NAMES, grads_close
from tests.backbones.text_kinds import SmallText, plain
from vlmprompt.backbones.text import repeats
from vlmprompt.backbones.text.repeats import Repeats
from vlmprompt.backbones.types import TextPrompts

WHOLE = [name for name in KINDS if name.startswith(("bidirectional", "pads hidden", "causal, last"))]
V = 3


@pytest.fixture(scope="module", params=WHOLE)
def kind(request: pytest.FixtureRequest) -> SmallText:
    return SmallText(*KINDS[request.param])


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Texts of any number share; gives the number of tokens that were computed for each first layer."""
    seen: list[int] = []
    qkv = Repeats.qkv

    def counted(self: Repeats, block: Any, x_QTD: Tensor, position_TD: Tensor) -> Tensor:
        seen.append(len(self.first_U) + len(self.context_S))
        return qkv(self, block, x_QTD, position_TD)

    monkeypatch.setattr(repeats, "FEWEST", 1)
    monkeypatch.setattr(Repeats, "qkv", counted)
    return seen


@pytest.mark.parametrize(("scope", "chunk"), [("shared", "auto"), ("class", 3)])
def test_values_and_gradients(kind: SmallText, shared: list[int], scope: Any, chunk: Any) -> None:
    """Beside a deep prompt, which enters behind the first layer."""
    g, n = torch.Generator().manual_seed(3), len(NAMES)
    lead = (n,) if scope == "class" else ()
    ctx = torch.randn(*lead, 2, V, 64, generator=g).requires_grad_()
    deep = torch.randn(2, 2, 64, generator=g).requires_grad_()
    prompts = TextPrompts(ctx, scope=scope, deep={1: deep})
    ours = kind.engine.encode(prompts, kind.engine.class_tokens(NAMES), chunk=chunk)
    rows = ctx.transpose(0, 1) if scope == "class" else ctx[:, None].expand(-1, n, -1, -1)
    slots = {1: deep.repeat_interleave(n, dim=0)}
    ids = kind.rows(NAMES, V, "end").repeat(2, 1)
    reference = plain(kind.model, ids, rows.flatten(0, 1), slots, first=len(kind.words.start))
    grads_close(ours, reference.reshape(ours.shape), [ctx, deep])
    assert shared and max(shared) <= ids.numel() // 2


def test_without_context(kind: SmallText, shared: list[int]) -> None:
    close(
        kind.engine.encode_sentences(["a cat", "a dog", "a cat on a mat"]),
        kind.encode_text(["a cat", "a dog", "a cat on a mat"]),
    )
    assert len(shared) == 1


def test_inserted_tokens_enter_the_first_layer_of_every_text(kind: SmallText, shared: list[int]) -> None:
    """They are no tokens of a text: nothing is shared then, and all is in the second layer."""
    classes, ctx = kind.engine.class_tokens(NAMES), torch.randn(1, V, 64, generator=torch.Generator().manual_seed(1))
    tokens = torch.randn(1, 2, 64, generator=torch.Generator().manual_seed(2))
    kind.engine.encode(TextPrompts(ctx, inserted={0: tokens}), classes)
    assert not shared
    kind.engine.encode(TextPrompts(ctx, inserted={1: tokens}), classes)
    assert len(shared) == 1


def test_few_texts_are_left_alone(kind: SmallText, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are texts of which most tokens are context."""

    def never(*_: Any) -> Tensor:
        raise AssertionError("shared")

    monkeypatch.setattr(Repeats, "qkv", never)
    classes = kind.engine.class_tokens(NAMES)
    kind.engine.encode(TextPrompts(torch.zeros(1, V, 64)), classes)
    monkeypatch.setattr(repeats, "FEWEST", 1)
    most = kind.engine.context_length * 2 // 3
    kind.engine.encode(TextPrompts(torch.zeros(1, most, 64)), kind.engine.class_tokens(["cat", "dog"]))
