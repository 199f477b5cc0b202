"""Cached features: the tower's own outputs, kept on disk under a key that notices changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from vlmprompt.backbones.features import extract, feature_bytes
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError


@dataclasses.dataclass
class Reader:
    """The part of a method that `extract` asks."""

    needs: ImageNeeds = dataclasses.field(default_factory=ImageNeeds)

    def image_needs(self):
        return self.needs

    def image_extra(self, images, labels):
        return {}

    def feature_key(self):
        return ""


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(5):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(path)
        rows.append(Record(path.name, i % 2, path))
    return rows


@pytest.fixture
def runtime():
    return Runtime(device="cpu", workers=0)


def test_one_view_is_what_the_tower_says(tiny_backbone, records, runtime):
    cached = extract(Reader(), records, backbone=tiny_backbone, runtime=runtime, batch_size=2)
    transform = tiny_backbone.transform(train=False)
    images = torch.stack([transform(Image.open(r.image).convert("RGB")) for r in records])
    torch.testing.assert_close(
        cached.features.global_Bd, tiny_backbone.encode_image(images).global_Bd, atol=1e-6, rtol=0
    )
    assert cached.labels.tolist() == [0, 1, 0, 1, 0]


def test_local_features_and_their_announced_size(tiny_backbone, records, runtime):
    for space, width in (("joint", 32), ("pre_proj", 96)):
        needs = ImageNeeds(local="value_block", space=space)
        cached = extract(Reader(needs), records, backbone=tiny_backbone, runtime=runtime)
        assert cached.features.local_BNc.shape == (5, 16, width)
        assert cached.bytes == feature_bytes(needs, tiny_backbone, 5)


def test_random_views_are_recorded_by_seed(tiny_backbone, records, runtime):
    def views(seed):
        cached = extract(Reader(), records, backbone=tiny_backbone, runtime=runtime, views=2, seed=seed)
        return cached.features.global_Bd

    assert views(1).shape == (10, 32)
    assert torch.equal(views(1), views(1))
    assert not torch.equal(views(1)[:5], views(1)[5:])
    assert not torch.equal(views(1), views(2))


def test_disk_cache_reads_back_and_notices_changes(tiny_backbone, records, tmp_path):
    runtime = Runtime(device="cpu", workers=0, feature_cache=tmp_path / "cache")
    first = extract(Reader(), records, backbone=tiny_backbone, runtime=runtime)
    again = extract(Reader(), records, backbone=tiny_backbone, runtime=runtime)
    assert (first.source, again.source != "computed") == ("computed", True)
    assert torch.equal(first.features.global_Bd, again.features.global_Bd)
    assert torch.equal(first.labels, again.labels)
    Image.new("RGB", (50, 50), "red").save(records[0].image)
    assert extract(Reader(), records, backbone=tiny_backbone, runtime=runtime).source == "computed"
    assert extract(Reader(), records[1:], backbone=tiny_backbone, runtime=runtime).source == "computed"
    assert len(list((tmp_path / "cache").glob("features-*.safetensors"))) == 3


def test_disk_cache_tells_apart_what_the_weights_do_not(tiny_architecture, records, tmp_path):
    runtime = Runtime(device="cpu", workers=0, feature_cache=tmp_path / "cache")
    loads = [{}, {"quick_gelu": True}, {"precision": "bf16"}]
    towers = [load_backbone(tiny_architecture, random_weights=0, **load) for load in loads]
    assert len({backbone.digest for backbone in towers}) == 1
    found = [extract(Reader(), records, backbone=backbone, runtime=runtime) for backbone in towers]
    assert [one.source for one in found] == ["computed"] * 3
    assert not torch.equal(found[0].features.global_Bd, found[1].features.global_Bd)
    assert not torch.equal(found[0].features.global_Bd, found[2].features.global_Bd)


def test_a_method_that_trains_the_tower_is_refused(tiny_backbone, records, runtime):
    with pytest.raises(InputError, match="cannot be cached"):
        extract(Reader(ImageNeeds(grad=True)), records, backbone=tiny_backbone, runtime=runtime)


def test_an_unreadable_image_is_named(tiny_backbone, records, runtime):
    records[3].image.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"3\.png"):
        extract(Reader(), records, backbone=tiny_backbone, runtime=runtime)


def test_cached_features_are_of_the_same_pixels(tiny_backbone, records, runtime, tmp_path):
    kept = runtime.model_copy(update={"feature_cache": tmp_path / "cache"})
    for upright in (False, True):
        turned = [dataclasses.replace(record, upright=upright) for record in records]
        assert extract(Reader(), turned, backbone=tiny_backbone, runtime=kept).source == "computed"
        assert extract(Reader(), turned, backbone=tiny_backbone, runtime=kept).source != "computed"
