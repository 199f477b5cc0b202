"""A CPU on which bf16 is slower is told of where it was asked for, by times that the test sets."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from vlmprompt.training import slow_precision
from vlmprompt.training.slow_precision import times_as_long, warn_of_slow_bf16

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    times_as_long.cache_clear()
    yield
    times_as_long.cache_clear()


def takes(monkeypatch: pytest.MonkeyPatch, reduced: list[float], full: float) -> list[float]:
    """Times of the passes in bf16, one after the other (the last one again and again), and of each in fp32."""
    left = list(reduced)
    monkeypatch.setattr(slow_precision, "run_mlp", lambda _: None)
    monkeypatch.setattr(
        slow_precision, "seconds", lambda low: (left.pop(0) if len(left) > 1 else left[0]) if low else full
    )
    return left


def test_the_ratio_is_of_medians_within_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    left = takes(monkeypatch, [0.9, 0.16, 0.18, 0.17], full=0.1)
    assert times_as_long() == pytest.approx(9)  # the first pair takes half a second already
    assert len(left) == 3
    times_as_long.cache_clear()
    takes(monkeypatch, [0.08, 0.16, 0.01], full=0.1)
    assert times_as_long() == pytest.approx(0.08 / 0.1)  # 0.18 + 0.26 + 0.11 s: three pairs


def test_slower_is_said_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch, [0.5], full=0.3)
    with pytest.warns(UserWarning, match=r"bf16 takes 1\.7 times as long as fp32 on this CPU .* --precision fp32"):
        warn_of_slow_bf16(CPU, "bf16")
    times_as_long.cache_clear()
    monkeypatch.setattr(slow_precision, "seconds", lambda low: pytest.fail("it was not asked for"))
    warn_of_slow_bf16(CPU, "fp32")
    warn_of_slow_bf16(torch.device("cuda"), "bf16")


def test_nothing_is_said_of_a_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch, [0.2], full=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_slow_bf16(CPU, "bf16")


def test_a_pass_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[bool] = []
    monkeypatch.setattr(slow_precision, "run_mlp", ran.append)
    assert slow_precision.seconds(True) > 0 and ran == [True]
    monkeypatch.undo()
    slow_precision.run_mlp(True)
