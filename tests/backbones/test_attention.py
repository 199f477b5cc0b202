"""Attention in windows against a softmax for each run by itself: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlmprompt.backbones.text.attention import attend, attend_ends
from vlmprompt.backbones.text.windows import Group, Windows

HERE = torch.device("cpu")
# Two windows that are full, one that is not; runs that do not see their last token themselves.
GROUPS = (Group(0, 2, 13), Group(26, 3, 6), Group(44, 2, 5, sees_itself=False), Group(54, 4, 1))
TOKENS, HEADS, WIDTH, PREFIX = 58, 2, 3, 4


def material(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plainly(q: Tensor, kv: Tensor, prefix_kv: Tensor, hidden_T: Tensor, *, ends: bool) -> Tensor:
    """Each query of each run, one at a time."""
    out: list[Tensor] = []
    for group in GROUPS:
        for start in range(group.start, group.stop, group.length):
            for t in range(start + group.length - 1 if ends else start, start + group.length):
                last = t == start + group.length - 1
                seen = [i for i in range(start, t + 1) if hidden_T[i] == 0 and (group.sees_itself or not last or i < t)]
                own = kv[..., seen, :].expand(-1, len(prefix_kv[0]), -1, -1, -1)
                k, v = torch.cat([prefix_kv, own], dim=3)
                asks = q[:, :, len(out) if ends else t]
                w = (torch.einsum("phd,phxd->phx", asks.expand(len(k), -1, -1), k) * WIDTH**-0.5).softmax(dim=-1)
                out.append(torch.einsum("phx,phxd->phd", w, v))
    return torch.stack(out, dim=2)


def hidden() -> Tensor:
    return torch.zeros(TOKENS, dtype=torch.float64).index_fill(0, torch.tensor([3, 30]), float("-inf"))


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("own_prompts", [1, 2])  # one: all prompts share what they ask and are asked
def test_windows_are_a_softmax_for_each_run(ends: bool, own_prompts: int) -> None:
    qkv = material(3, own_prompts, HEADS, TOKENS, WIDTH).requires_grad_()
    prefix_kv = material(2, 2, HEADS, PREFIX, WIDTH, seed=1).requires_grad_()
    windows = Windows.of(GROUPS, hidden(), ends=ends, device=HERE)
    last_Q = torch.tensor([start + g.length - 1 for g in GROUPS for start in range(g.start, g.stop, g.length)])
    q = qkv[0].index_select(2, last_Q) if ends else qkv[0]
    ours = attend_ends(q, qkv[1:], prefix_kv, windows) if ends else attend(qkv, prefix_kv, windows)
    plain = plainly(q, qkv[1:], prefix_kv, hidden(), ends=ends)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        again = attend_ends(q, qkv[1:], prefix_kv, windows) if ends else attend(qkv, prefix_kv, windows)
    assert torch.equal(again, ours)
    weights = material(*ours.shape, seed=2)
    found = torch.autograd.grad((ours * weights).sum(), [qkv, prefix_kv], retain_graph=True)
    expected = torch.autograd.grad((plain * weights).sum(), [qkv, prefix_kv])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert (b != 0).any()


def test_only_what_wants_a_gradient_gets_one() -> None:
    windows = Windows.of(GROUPS, None, ends=False, device=HERE)
    qkv, prefix_kv = material(3, 1, HEADS, TOKENS, WIDTH), material(2, 2, HEADS, PREFIX, WIDTH).requires_grad_()
    attend(qkv, prefix_kv, windows).sum().backward()
    assert qkv.grad is None and prefix_kv.grad is not None


def test_windows_hold_every_token_once_and_no_run_is_cut() -> None:
    windows = Windows.of(GROUPS, None, ends=False, device=HERE)
    assert windows.token_S[windows.slot_T].tolist() == list(range(TOKENS))
    of_run = [run for g in GROUPS for run in range(g.start, g.stop, g.length) for _ in range(g.length)]
    width = len(windows.token_S) // windows.n
    cut = {run: {int(slot) // width for t, slot in enumerate(windows.slot_T) if of_run[t] == run} for run in of_run}
    assert (windows.n, width) == (2, 32) and all(len(found) == 1 for found in cut.values())
