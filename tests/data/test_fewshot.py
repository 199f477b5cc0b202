"""The k-shot sampler and the halves of base-to-new."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from vlmprompt.data.classes import base_new_labels
from vlmprompt.data.fewshot import FewShotSplit, sample, with_val
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import InputError

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def dataset(train: list[int], val: list[int] | None = None) -> Dataset:
    splits = {
        split: tuple(Record(f"{split}/{i}", label, Path(f"{i}.png")) for i, label in enumerate(rows))
        for split, rows in (("train", train), ("val", val or []))
    }
    return Dataset("made", "made:", tuple(f"class {i}" for i in range(5)), splits)


def generated() -> Dataset:
    """5 classes in mixed order, 5 to 21 train images each, 3 to 6 val images."""
    rng = random.Random(0)
    train = [label for label in range(5) for _ in range(5 + 4 * label)]
    val = [label for label in range(5) for _ in range(3 + label % 4)]
    rng.shuffle(train)
    return dataset(train, val)


@pytest.mark.parametrize(("shots", "seed"), [(1, 1), (1, 2), (4, 1), (4, 3), (16, 1), (16, 2)])
def test_published_procedure_spelt_out(shots: int, seed: int) -> None:
    """Against the module-level generator, seeded and consumed as the published code does."""
    data = generated()
    state = random.getstate()
    random.seed(seed)
    expected = []
    for split, k in (("train", shots), ("val", min(shots, 4))):
        order: list[int] = []
        for record in data.splits[split]:
            if record.label not in order:
                order.append(record.label)
        for label in order:
            rows = [r for r in data.splits[split] if r.label == label]
            expected += random.sample(rows, k) if len(rows) >= k else rows
    random.setstate(state)
    drawn = sample(data, shots, seed, allow_fewer=True)
    assert [*drawn.train, *drawn.val] == expected
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("shots", "seed", "digest"),
    [
        (1, 1, "5ee5cd88efbe104a"),
        (1, 2, "bcf4f18a36c22e1a"),
        (2, 1, "da1ba600923764d9"),
        (4, 3, "1cae1b8d7dec9944"),
        (8, 1, "29365cf239d6cb69"),
        (16, 1, "02a452ceb997a704"),
        (16, 3, "78637a45822c3f4e"),
    ],
)
def test_frozen_digests(shots: int, seed: int, digest: str) -> None:
    """Fails where Python's `random.sample` changes: published subsets would no longer be reproduced."""
    assert sample(generated(), shots, seed, allow_fewer=True).digest.startswith(digest)


@given(train=labels, val=labels, shots=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_counts_order_and_no_repeats(train: list[int], val: list[int], shots: int, seed: int) -> None:
    data = dataset(train, val)
    drawn = sample(data, shots, seed, allow_fewer=True)
    for rows, source, k in ((drawn.train, train, shots), (drawn.val, val, min(shots, 4))):
        counts = {label: min(k, source.count(label)) for label in dict.fromkeys(source)}
        assert [r.label for r in rows] == [label for label, n in counts.items() for _ in range(n)]
        assert len(set(rows)) == len(rows)
    assert set(drawn.train) <= set(data.splits["train"]) and set(drawn.val) <= set(data.splits["val"])


@given(train=labels, more=labels, shots=st.integers(1, 8), seed=st.integers(0, 99))
def test_later_classes_and_val_do_not_change_what_came_before(
    train: list[int], more: list[int], shots: int, seed: int
) -> None:
    first = [label % 3 for label in train]
    longer = first + [3 + label % 2 for label in more]
    alone = sample(dataset(first), shots, seed, allow_fewer=True)
    together = sample(dataset(longer, longer), shots, seed, allow_fewer=True)
    assert together.train[: len(alone.train)] == alone.train


@given(train=labels, shots=st.integers(1, 8))
def test_restriction_is_a_subset_of_the_draw(train: list[int], shots: int) -> None:
    drawn = sample(dataset(train, train), shots, 1, allow_fewer=True)
    kept = drawn.restrict([4, 1])
    assert [(r.id, [4, 1][r.label]) for r in kept.train] == [(r.id, r.label) for r in drawn.train if r.label in (1, 4)]
    assert [r.id for r in kept.val] == [r.id for r in drawn.val if r.label in (1, 4)]
    assert (kept.shots, kept.seed) == (drawn.shots, drawn.seed)


def test_all_records_without_shots() -> None:
    data = generated()
    drawn = sample(data, None, 1)
    assert (drawn.train, drawn.val) == (data.splits["train"], data.splits["val"])


def test_too_few_images_names_classes_and_flag() -> None:
    data = dataset([0] * 3 + [1] * 2 + [2] * 4 + [3])
    with pytest.raises(InputError) as error:
        sample(data, 4, 1)
    assert error.value.message == (
        "4 of 5 classes have fewer than 4 train images: 'class 0' (3), 'class 1' (2), 'class 3' (1) and 1 more"
    )
    assert "--allow-fewer" in (error.value.hint or "")
    with pytest.raises(InputError, match="has no train images"):
        sample(dataset([]), None, 1)


def test_digest_depends_on_ids_and_order() -> None:
    data = generated()
    digests = {sample(data, k, seed, allow_fewer=True).digest for k in (1, 2, 4) for seed in (1, 2, 3)}
    assert len(digests) == 9


@pytest.mark.parametrize(("n", "base"), [(2, 1), (3, 2), (10, 5), (37, 19), (101, 51), (397, 199)])
def test_base_takes_the_larger_half(n: int, base: int) -> None:
    assert base_new_labels(n) == (range(base), range(base, n))


def test_one_class_has_no_halves() -> None:
    with pytest.raises(InputError, match="at least 2 classes"):
        base_new_labels(1)


def proportional(seed: int, shots: int = 4) -> FewShotSplit:
    return sample(generated(), shots, seed, sampler="gallop")


def test_the_gallop_sampler_is_scikit_learns() -> None:
    """20 of 65 records, 5 + 4 * label of each class: floor(20 * n / 65) of each, the rest by largest remainders."""
    train = generated().split("train")
    drawn = proportional(1)
    counts = Counter(record.label for record in drawn.train)
    assert counts == {0: 2, 1: 3, 2: 4, 3: 5, 4: 6}  # of 20 * (5, 9, 13, 17, 21) / 65 = 1.54, 2.77, 4, 5.23, 6.46
    labels = [record.label for record in train]
    split = StratifiedShuffleSplit(n_splits=1, train_size=20, random_state=1)
    expected, _ = next(split.split(np.zeros(len(labels)), labels))
    assert [record.id for record in drawn.train] == [train[i].id for i in expected]
    assert proportional(2).train != drawn.train and proportional(1) == drawn


def test_the_gallop_sampler_validates_on_coops_images() -> None:
    assert proportional(3).val == sample(generated(), 4, 3).val != ()


def test_the_gallop_sampler_takes_all_where_that_is_asked() -> None:
    assert proportional(1, shots=13).train == generated().split("train")
    assert sample(generated(), None, 1, sampler="gallop").train == generated().split("train")


def test_the_gallop_sampler_tells_of_classes_without_an_image() -> None:
    few = dataset([0] * 40 + [1] * 40 + [2] * 40 + [3] * 40 + [4] * 3)
    drawn = sample(few, 1, 1, sampler="gallop")
    assert sorted(Counter(record.label for record in drawn.train).values()) == [1, 1, 1, 2]
    assert drawn.doubts == ("the gallop sampler draws no image of 1 classes: 'class 4'",)


def test_what_the_gallop_sampler_cannot_draw() -> None:
    with pytest.raises(InputError, match="cannot draw 5 of 9 train images"):
        sample(dataset([0, 0, 1, 1, 2, 2, 3, 3, 4]), 1, 1, sampler="gallop")


def test_validation_beside_the_shots() -> None:
    """Without a val split, from the train images that are left: never one that is trained on."""
    data = dataset([label for label in range(5) for _ in range(6)])
    split, source = with_val(data, sample(data, 4, 7))
    assert source == "train images beyond the shots, random.Random(7)"
    assert Counter(record.label for record in split.val) == dict.fromkeys(range(5), 2)
    assert {r.id for r in split.train} | {r.id for r in split.val} == {r.id for r in data.split("train")}
    assert with_val(data, sample(data, None, 7))[1].startswith("none")
