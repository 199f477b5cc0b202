"""The order of balanced epochs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmprompt.training.order import balanced, epoch_generator


@settings(max_examples=60)
@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), seed=st.integers(0, 3))
def test_each_class_equally_often(counts: list[int], seed: int) -> None:
    labels_n = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels_n = labels_n[torch.randperm(len(labels_n), generator=torch.Generator().manual_seed(seed))]
    order = balanced(labels_n, epoch_generator(seed, 0))
    assert len(order.index_n) == len(order.again_n) == len(labels_n)
    present = [label for label, count in enumerate(counts) if count]
    draws = torch.bincount(labels_n[order.index_n], minlength=len(counts))[present]
    assert draws.max() - draws.min() <= 1
    times = torch.bincount(order.index_n, minlength=len(labels_n))
    for label in present:  # within a class no image comes twice more often than another
        own = times[labels_n == label]
        assert own.max() - own.min() <= 1
    for image in range(len(labels_n)):  # its repetitions are numbered from 0
        assert sorted(order.again_n[order.index_n == image].tolist()) == list(range(int(times[image])))


def test_equal_classes_give_every_image_once() -> None:
    order = balanced(torch.arange(3).repeat(5), epoch_generator(1, 0))
    assert sorted(order.index_n.tolist()) == list(range(15)) and not order.again_n.any()


def test_a_function_of_seed_and_epoch() -> None:
    labels_n = torch.tensor([0] * 12 + [1] * 2)
    first, again, next_epoch, other_seed = (
        balanced(labels_n, epoch_generator(*where)).index_n.tolist() for where in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert first == again and first != next_epoch and first != other_seed


@pytest.mark.parametrize("rest", range(3))
def test_who_gets_one_more_changes(rest: int) -> None:
    """Of 3 classes and 10 draws one is drawn four times: another one from epoch to epoch."""
    labels_n = torch.tensor([0] * 8 + [1] + [2])
    favoured = {
        int(torch.bincount(labels_n[balanced(labels_n, epoch_generator(rest, epoch)).index_n]).argmax())
        for epoch in range(20)
    }
    assert favoured == {0, 1, 2}
