"""The built-in world as data sets: counts, records, and how the rest of the toolkit takes them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import extract
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.models import Runtime
from vlmprompt.data import decoding
from vlmprompt.data.fewshot import sample
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.data.records import Dataset, Record
from vlmprompt.doodles import reader
from vlmprompt.doodles.domains import DOMAINS
from vlmprompt.doodles.pictures import members, picture
from vlmprompt.doodles.reader import Doodle
from vlmprompt.errors import InputError, UsageError


class Plain:
    """What a method without ways of its own asks of an image."""

    def image_needs(self) -> ImageNeeds:
        return ImageNeeds()

    def image_extra(self, images: torch.Tensor, labels: torch.Tensor | None) -> dict[str, torch.Tensor]:
        return {}

    def feature_key(self) -> str:
        return ""


FULL = {"train": 64, "val": 8, "test": 32}
TEST = {"test": 32}


def per_class(dataset: Dataset) -> dict[str, int]:
    return {split: len(records) // len(dataset.class_names) for split, records in dataset.splits.items()}


@pytest.mark.parametrize(
    ("spec", "name", "classes", "counts"),
    [
        ("doodles", "doodles", 64, FULL),
        ("doodles:paint", "doodles", 64, FULL),
        *[(f"doodles:{domain}", f"doodles-{domain}", 64, FULL) for domain in list(DOMAINS)[1:]],
        *[(f"doodles-{group}", f"doodles-{group}", 16, FULL) for group in ("animals", "food", "places", "things")],
        ("doodles-food:v2", "doodles-food-v2", 16, FULL),
        ("doodles-lookalikes", "doodles-lookalikes", 10, FULL),
        ("doodles-lookalikes:sketch", "doodles-lookalikes-sketch", 10, FULL),
        ("doodles-unseen", "doodles-unseen", 16, TEST),
        ("doodles-unseen:night", "doodles-unseen-night", 16, TEST),
        ("doodles-textures", "doodles-textures", 17, TEST),
        ("doodles-glyphs", "doodles-glyphs", 36, TEST),
    ],
)
def test_every_spec(spec: str, name: str, classes: int, counts: dict[str, int]) -> None:
    dataset = load_dataset(spec)
    assert (dataset.spec, dataset.name, len(dataset.class_names)) == (spec, name, classes)
    assert per_class(dataset) == counts
    for records in dataset.splits.values():
        assert len({record.id for record in records}) == len(records)
        assert [record.label for record in records] == sorted(record.label for record in records)


def test_records_are_the_pictures_of_their_ids() -> None:
    dataset = load_dataset("doodles:sketch")
    record = dataset.split("val")[8 * dataset.class_names.index("key") + 5]
    assert (record.id, record.label) == ("v1/sketch/val/key/5", dataset.class_names.index("key"))
    expected = picture("key", 5, domain="sketch", split="val")
    assert np.array_equal(np.asarray(read_image(record)), np.asarray(expected.image))
    assert isinstance(record.image, Doodle)
    found = record.image.rendered()
    assert np.array_equal(found.mask, expected.mask) and found.box == expected.box


def test_a_picture_that_was_read_may_be_changed() -> None:
    doodle = Doodle("cat", 0, "silhouette", "val")
    doodle.load().paste((0, 0, 0), (0, 0, 64, 64))
    assert doodle.load().getextrema() != ((0, 0), (0, 0), (0, 0))


def test_digests_tell_domains_and_groups_apart() -> None:
    specs = ("doodles", "doodles:night", "doodles-animals", "doodles-animals:night", "doodles-unseen")
    digests = {load_dataset(spec).digest for spec in specs}
    assert len(digests) == len(specs)
    assert load_dataset("doodles:paint").digest == load_dataset("doodles").digest


def test_groups_are_the_classes() -> None:
    groups = [load_dataset(f"doodles-{group}").class_names for group in ("animals", "food", "places", "things")]
    assert sorted(name for names in groups for name in names) == list(load_dataset("doodles").class_names)


def test_lookalikes_are_pairs_of_the_classes() -> None:
    names = load_dataset("doodles-lookalikes").class_names
    assert {"frog", "toad", "clock", "compass"} < set(names) < set(load_dataset("doodles").class_names)
    assert load_dataset("doodles-lookalikes").companions["targets"] == ("doodles-unseen",)


def test_companions() -> None:
    whole, night, food = (load_dataset(spec).companions for spec in ("doodles", "doodles:night", "doodles-food"))
    assert whole["domains"] == tuple(f"doodles:{domain}" for domain in list(DOMAINS)[1:])
    assert night["domains"] == tuple(f"doodles:{d}" if d != "paint" else "doodles" for d in DOMAINS if d != "night")
    assert food["targets"] == ("doodles-animals", "doodles-places", "doodles-things")
    assert whole["targets"] == ("doodles-unseen",)
    assert whole["ood"] == ("doodles-unseen", "doodles-textures", "doodles-glyphs")
    assert load_dataset("doodles:crowded").companions["ood"][0] == "doodles-unseen:crowded"
    assert load_dataset("doodles-unseen").companions == {}
    for kind in (whole, food):
        for specs in kind.values():
            assert all(load_dataset(spec).splits["test"] for spec in specs)


def test_class_names_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\n".join(f"{name} drawing" for name in members("food")), encoding="utf-8")
    dataset = load_dataset("doodles-food", class_names_file=file)
    assert dataset.class_names[0] == "apple drawing" and dataset.split("test")[0].id == "v1/paint/test/apple/0"
    assert dataset.companions["domains"] == ()  # whose classes are named otherwise
    with pytest.raises(InputError, match="16 class names, the data set has 64 classes"):
        load_dataset("doodles", class_names_file=file)


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("doodles:sketsh", "doodles has no domain 'sketsh'", "did you mean 'sketch'?"),
        ("doodles-food:", None, None),
        ("doodles-food:x", "doodles-food has no domain 'x'", "known: crowded, night, paint, silhouette, sketch, v2"),
        ("doodles-glyphs:night", "doodles-glyphs has no domains, not even 'night'", "write doodles-glyphs"),
        ("doodle", "unknown dataset 'doodle'", None),
    ],
)
def test_wrong_domains(spec: str, message: str | None, hint: str | None) -> None:
    if message is None:
        assert load_dataset(spec).spec == "doodles-food"
        return
    with pytest.raises(UsageError) as error:
        load_dataset(spec)
    assert error.value.message == message or spec == "doodle"
    assert hint is None or error.value.hint == hint


def test_few_shots() -> None:
    dataset = load_dataset("doodles-food")
    first, again, other = (sample(dataset, 2, seed) for seed in (1, 1, 2))
    assert len(first.train) == 32 and len(first.val) == 32
    assert first.digest == again.digest != other.digest
    assert all("/train/" in record.id for record in first.train)


def test_pictures_are_drawn_once_whatever_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers end with a pass; what they drew would be drawn again in the next."""
    monkeypatch.setattr(decoding, "IN_PROCESS", 4)
    monkeypatch.setattr(decoding, "IN_PROCESS_SPAWN", 4)
    drawn = []
    monkeypatch.setattr(reader, "picture", lambda *args, **kw: drawn.append(args) or picture(*args, **kw))
    records = load_dataset("doodles-things:silhouette").split("val")[:12]
    transform = build_transform(PreprocessConfig(32, (0.5,) * 3, (0.5,) * 3), train=False)
    reader._pixels.cache_clear()
    first, again = (list(ImageLoader(records, transform, 6, workers=2)) for _ in range(2))
    assert len(drawn) == 12
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.images_B3HW, two.images_B3HW)


def test_records_go_to_other_processes() -> None:
    record = load_dataset("doodles-things:silhouette").split("val")[3]
    sent = pickle.loads(pickle.dumps(record))
    assert sent == record and read_image(sent).tobytes() == read_image(record).tobytes()


def test_features_are_kept_by_what_was_drawn(tiny_backbone: Backbone, tmp_path: Path) -> None:
    """Records without files have keys of their own in the feature cache, by domain too."""
    runtime = Runtime(device="cpu", workers=0, feature_cache=tmp_path)

    def features(records: tuple[Record, ...]) -> tuple[str, torch.Tensor]:
        found = extract(Plain(), records, backbone=tiny_backbone, runtime=runtime)
        return found.source, found.features.global_Bd

    paint, night = (load_dataset(spec).split("val")[:3] for spec in ("doodles:silhouette", "doodles:sketch"))
    (source, first), (_, other), (kept, again) = features(paint), features(night), features(paint)
    assert source == "computed" and kept == str(tmp_path) and torch.equal(first, again)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2 and not torch.equal(first, other)
