"""Order, views and mid-epoch entry of both sources of batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.material import make_photos
from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.load import load_dataset
from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.training.batches import FeatureBatches, ImageBatches

CPU = torch.device("cpu")


def features(n: int, views: int) -> CachedFeatures:
    """Row v*n + i holds the number 100 v + i."""
    rows_Bd = torch.tensor([[100.0 * v + i] for v in range(views) for i in range(n)])
    return CachedFeatures(ImageFeatures(rows_Bd), torch.arange(n).repeat(views) % 3, views)


def numbers(images: Tensor | ImageFeatures) -> list[int]:
    assert isinstance(images, ImageFeatures)
    return [round(x) for x in images.global_Bd[:, 0].tolist()]


@settings(max_examples=40)
@given(
    n=st.integers(1, 30),
    views=st.integers(1, 4),
    size=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
    data=st.data(),
)
def test_feature_epochs(n: int, views: int, size: int, seed: int, epoch: int, data: st.DataObject) -> None:
    source = FeatureBatches(features(n, views), size, seed=seed, device=CPU)
    steps = max(1, n // size)
    whole = list(source.epoch(epoch, skip=0, steps=steps))
    drawn = [number for batch in whole for number in numbers(batch.images)]
    assert len({number % 100 for number in drawn}) == len(drawn) == min(n, steps * size)  # each image once
    assert [number % 100 for number in drawn] == torch.cat([b.index_B for b in whole]).tolist()
    assert torch.cat([b.labels_B for b in whole]).tolist() == [number % 100 % 3 for number in drawn]
    skip = data.draw(st.integers(0, steps))
    rest = list(source.epoch(epoch, skip=skip, steps=steps))
    assert [numbers(b.images) for b in rest] == [numbers(b.images) for b in whole[skip:]]


def test_epochs_and_seeds_differ_and_views_are_mixed() -> None:
    source = FeatureBatches(features(40, 3), 40, seed=1, device=CPU)
    other = FeatureBatches(features(40, 3), 40, seed=2, device=CPU)
    first, second = (numbers(next(source.epoch(e, skip=0, steps=1)).images) for e in (0, 1))
    assert sorted(n % 100 for n in first) == list(range(40)) and first != second
    assert {n // 100 for n in first} == {0, 1, 2}
    assert numbers(next(other.epoch(0, skip=0, steps=1)).images) != first


@pytest.mark.parametrize("augment", [False, True])
def test_image_epochs_can_be_entered_anywhere(tmp_path: Path, augment: bool) -> None:
    records = load_dataset(f"folder:{make_photos(tmp_path / 'p', splits={'train': 3, 'test': 1})}").split("train")
    transform = build_transform(PreprocessConfig(16, (0.5,) * 3, (0.5,) * 3), train=augment)
    source = ImageBatches(records, transform, 5, seed=3, augment=augment, device=CPU, workers=0)
    whole = list(source.epoch(2, skip=0, steps=2))
    assert [len(b.labels_B) for b in whole] == [5, 5]
    (rest,) = source.epoch(2, skip=1, steps=2)
    assert isinstance(rest.images, Tensor) and torch.equal(rest.images, whole[1].images)
    assert rest.labels_B.tolist() == [records[i].label for i in rest.index_B.tolist()]
    (again,) = source.epoch(3, skip=0, steps=1)
    assert again.index_B.tolist() != whole[0].index_B.tolist()


def test_balanced_epochs_repeat_images_in_other_views(tmp_path: Path) -> None:
    records = load_dataset(f"folder:{make_photos(tmp_path / 'p', splits={'train': 6, 'test': 1})}").split("train")
    uneven = [record for record in records if record.label == 0] + [r for r in records if r.label == 1][:1]
    transform = build_transform(PreprocessConfig(16, (0.5,) * 3, (0.5,) * 3), train=True)
    source = ImageBatches(uneven, transform, 7, seed=3, augment=True, device=CPU, workers=0, sampling="balanced")
    (batch,) = source.epoch(0, skip=0, steps=1)
    rare = (batch.index_B == 6).nonzero().flatten()
    assert isinstance(batch.images, Tensor) and len(rare) in (3, 4)
    views = [batch.images[i] for i in rare.tolist()]
    assert not any(torch.equal(views[0], other) for other in views[1:])
    halves = ImageBatches(uneven, transform, 3, seed=3, augment=True, device=CPU, workers=0, sampling="balanced")
    whole = list(halves.epoch(0, skip=0, steps=2))
    (rest,) = halves.epoch(0, skip=1, steps=2)
    assert isinstance(rest.images, Tensor) and isinstance(whole[1].images, Tensor)
    assert torch.equal(rest.images, whole[1].images) and torch.equal(rest.images, batch.images[3:6])


def test_balanced_epochs_of_features_take_the_views_in_turn() -> None:
    rows_Bd = torch.tensor([[100.0 * v + i] for v in range(3) for i in range(8)])
    labels = torch.tensor([0] * 7 + [1])
    cached = CachedFeatures(ImageFeatures(rows_Bd), labels.repeat(3), 3)
    (batch,) = FeatureBatches(cached, 8, seed=1, device=CPU, sampling="balanced").epoch(0, skip=0, steps=1)
    rare = [number // 100 for number in numbers(batch.images) if number % 100 == 7]
    assert len(rare) == 4 and set(rare) == {0, 1, 2}  # four times the only image, its three views in turn
    assert batch.labels_B.tolist().count(1) == 4
