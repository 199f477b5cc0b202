"""Images behind equal ids are told apart wherever something computed of them is kept: in memory, and on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.evaluation.material import Seeing, slow_logits
from tests.evaluation.test_context import coop, make_bank, make_context
from tests.training.material import Hooked
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data.contents import files_digest, image_key
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import InputError
from vlmprompt.evaluation.images import ImageBank
from vlmprompt.methods.coop import CoOp, CoOpConfig


def noisy(record: Record, sigma: float) -> Image.Image:
    pixels = np.asarray(read_image(record), dtype=np.float32)
    noise = np.random.default_rng(7).normal(0, sigma, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Keyed:
    """An altered image that says what was done to which one."""

    record: Record
    sigma: float

    @property
    def key(self) -> str:
        return f"{image_key(self.record)} noise {self.sigma}"

    def load(self) -> Image.Image:
        return noisy(self.record, self.sigma)


class Silent:
    """The same without a word on which image it is."""

    def __init__(self, record: Record, sigma: float) -> None:
        self.record, self.sigma = record, sigma

    def load(self) -> Image.Image:
        return noisy(self.record, self.sigma)


class Unhashable(Silent):
    """The same, and nothing that Python could look up."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)  # wrongly: all are alike


SOURCES = [Keyed, Silent, Unhashable]


@pytest.fixture
def plain(make_photos_of_two: Path) -> Dataset:
    return load_dataset(f"folder:{make_photos_of_two}")


@pytest.fixture(scope="module")
def make_photos_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exchanged") / "photos"
    for i, (split, name) in enumerate((s, n) for s in ("train", "test") for n in ("cat", "dog")):
        (folder / split / name).mkdir(parents=True)
        pixels = np.random.default_rng(i).integers(0, 255, (36, 36, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / split / name / "0.png")
    return folder


def altered(dataset: Dataset, source: Callable[[Record, float], Any], sigma: float) -> Dataset:
    """The same ids, labels and name over other images."""
    test = tuple(replace(record, image=source(record, sigma)) for record in dataset.split("test"))
    return replace(dataset, splits={**dataset.splits, "test": test})


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("frozen_tower", [True, False])
def test_each_gets_the_predictions_of_its_own_images(
    source: type, frozen_tower: bool, plain: Dataset, tiny_backbone: Backbone
) -> None:
    method = coop(tiny_backbone, plain)
    if not frozen_tower:
        method = Seeing(tiny_backbone, plain.class_names, CoOpConfig(n_ctx=2)).eval()
    context = make_context(plain, make_bank(tiny_backbone), method)
    sets = [plain, altered(plain, source, 40), altered(plain, source, 90)]
    found = [context.predict(context.method(), dataset).logits_BK for dataset in sets]
    for dataset, logits_BK in zip(sets, found, strict=True):
        torch.testing.assert_close(logits_BK, loaded_logits(method, dataset), atol=1e-4, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2 < (found[1] - found[2]).abs().max()
    again = [context.predict(context.method(), dataset).logits_BK for dataset in sets]
    assert all(one is other for one, other in zip(found, again, strict=True))  # kept, each its own


def loaded_logits(method: CoOp, dataset: Dataset) -> torch.Tensor:
    @dataclass(frozen=True)
    class Read:
        record: Record

        def load(self) -> Image.Image:
            return read_image(self.record)

    return slow_logits(method, altered(dataset, lambda record, _: Read(record), 0))


@pytest.mark.parametrize("source", SOURCES)
def test_features_on_disk_are_those_of_the_images(
    source: type, plain: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    """In a bank for each, as in processes of their own: what one has kept is not read for another."""
    runtime = Runtime(device="cpu", workers=0, feature_cache=tmp_path / "cache")
    warned: list[str] = []

    def logits(dataset: Dataset) -> torch.Tensor:
        progress = Hooked()
        progress.warn = warned.append  # type: ignore[method-assign]
        bank = ImageBank(lambda: tiny_backbone, runtime, batch_size=4, progress=progress)
        return make_context(dataset, bank).predict(coop(tiny_backbone, plain), dataset).logits_BK

    sets = [plain, altered(plain, source, 40), altered(plain, source, 90)]
    found = [logits(dataset) for dataset in sets]
    for dataset, logits_BK in zip(sets, found, strict=True):
        torch.testing.assert_close(logits_BK, loaded_logits(coop(tiny_backbone, plain), dataset), atol=1e-4, rtol=1e-4)
        assert torch.equal(logits(dataset), logits_BK)
    assert len(list((tmp_path / "cache").glob("features-*"))) == (3 if source is Keyed else 1)
    assert warned == [] if source is Keyed else all(f"its {source.__name__} has no key" in text for text in warned)


def test_what_is_stored_knows_images_by_their_keys(plain: Dataset) -> None:
    one, other, again = (altered(plain, Keyed, sigma) for sigma in (40, 90, 40))
    assert one.measured_digest == again.measured_digest != other.measured_digest != plain.measured_digest
    assert one.shown("test") == again.shown("test") != other.shown("test")
    assert one.shown("train") == other.shown("train") != one.shown("test")


def test_a_file_in_the_place_of_another_is_another(plain: Dataset, tmp_path: Path) -> None:
    record = plain.split("test")[0]
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(str(record.image)).read_bytes())
    moved = replace(plain, splits={"test": (replace(record, image=copy),)})
    assert moved.shown("test") != replace(plain, splits={"test": (record,)}).shown("test")
    upright = replace(plain, splits={"test": (replace(record, upright=not record.upright),)})
    assert upright.shown("test") != replace(plain, splits={"test": (record,)}).shown("test")


def test_a_key_that_is_the_id_adds_nothing() -> None:
    """The built-in world is kept under the digests that it had before its pictures said their keys."""
    records = load_dataset("doodles-things").split("val")[:2]
    assert [record.image.key for record in records] == [record.id for record in records]  # type: ignore[union-attr]
    bare = [replace(record, image=Silent(record, 0)) for record in records]
    assert files_digest(records) == files_digest(bare)


def test_a_key_is_a_text(plain: Dataset) -> None:
    class Numbered(Silent):
        key = 5

    record = plain.split("test")[0]
    with pytest.raises(InputError, match=r"the key of image .* is a int, not a text"):
        image_key(replace(record, image=Numbered(record, 1)))
