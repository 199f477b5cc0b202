"""The store of features: the bits of what is computed without it, shared, bounded, and read no further than needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones.stored_images import GLOBAL, LOCAL, LOCAL_ROW, ROW, Tint, Wanting, tints
from tests.processes import Stepwise
from tests.processes import reporting as reporting_to
from tests.training.material import Hooked
from vlmprompt.backbones import unrecorded
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.cached import CachedFeatures, StoredFeatures
from vlmprompt.backbones.extraction import PlainReader
from vlmprompt.backbones.features import _Outlook, extract_each
from vlmprompt.backbones.store import keys, plan, shard
from vlmprompt.backbones.store.place import Store
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.claims import work as claims_work
from vlmprompt.claims.claim import claim
from vlmprompt.config.models import Runtime
from vlmprompt.errors import UsageError
from vlmprompt.testing import tiny_clip

BEFORE = PlainReader(ImageNeeds(local="value_block", space="pre_proj"))
TOKENS = PlainReader(ImageNeeds(local="tokens"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four images in a file: two batches."""
    monkeypatch.setattr(plan, "SHARD_ROWS", 5)
    Tint.seen.clear()
    yield
    Tint.seen.clear()


@pytest.fixture
def wanting(tiny_backbone: Backbone, tmp_path: Path) -> Wanting:
    return Wanting(tiny_backbone, tmp_path / "store")


def same(one: CachedFeatures, other: CachedFeatures) -> bool:
    a, b = one.features.tensors(), other.features.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("views", [1, 3])
def test_it_holds_the_bits_of_what_is_computed_without_it(wanting: Wanting, views: int) -> None:
    plain = wanting(feature_cache="off", views=views, seed=4)
    assert not isinstance(plain, StoredFeatures) and not wanting.folder.exists()
    first, again = (wanting(views=views, seed=4) for _ in range(2))
    assert same(first, plain) and same(again, plain) and torch.equal(again.labels, plain.labels)
    assert (first.source, again.source) == ("computed", str(wanting.folder))
    assert len(wanting.files) == 3 * views and len(Tint.seen) == 20 * views  # 4, 4 and 2 images
    computed, stored, read = wanting.progress.messages
    assert computed in stored and stored.endswith(f"kept in {wanting.folder}")
    assert read.endswith(f"are read from {wanting.folder}")


def test_other_lists_share_the_files_of_the_same_images(wanting: Wanting) -> None:
    wanting(n=8)
    Tint.seen.clear()
    more = wanting(n=10)
    assert Tint.seen == [8, 9] and same(more, wanting(n=10, feature_cache="off"))
    assert "2 of 10" not in wanting.progress.messages[-2] and "8 of 10 are there" in wanting.progress.messages[-2]


def test_what_rounds_otherwise_is_kept_apart(wanting: Wanting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads and the way of linear maps change last digits."""
    wanting()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert wanting().source == "computed" and len(wanting.files) == 6
    monkeypatch.setattr(keys, "is_fast", lambda: not unrecorded.is_fast())
    assert wanting().source == "computed" and len(wanting.files) == 9


def test_rows_are_read_from_their_files_alone(wanting: Wanting, monkeypatch: pytest.MonkeyPatch) -> None:
    wanting(LOCAL)
    plain, found = wanting(LOCAL, feature_cache="off"), wanting(LOCAL)
    shard._verified.clear()
    read: list[int] = []
    digest = shard.tensors_digest

    def counted(named: dict[str, Tensor]) -> str:
        read.append(sum(t.numel() * t.element_size() for t in named.values()))
        return digest(named)

    monkeypatch.setattr(shard, "tensors_digest", counted)
    assert isinstance(found, StoredFeatures) and found.opened == set() and found.held == 0
    index = torch.tensor([9, 0, 3, 9])
    rows = found.rows(index)
    assert torch.equal(rows.global_Bd, plain.features.global_Bd[index]) and found.opened == {0, 2}
    assert rows.local_BNc is not None and torch.equal(rows.local_BNc, plain.features.local_BNc[index])  # type: ignore[index]
    assert sum(read) == 6 * LOCAL_ROW  # of the 4 and the 2 images in these
    assert torch.equal(found.rows(slice(4, 6)).global_Bd, plain.features.global_Bd[4:6]) and found.opened == {0, 1, 2}
    assert found.bytes == 10 * LOCAL_ROW
    read.clear()
    shard._verified.clear()
    few = wanting(GLOBAL)
    assert same(few, wanting(GLOBAL, feature_cache="off")) and sum(read) == 10 * ROW  # patches stay on the disk


@pytest.mark.parametrize("off", ["off", None])
def test_one_pass_gives_each_reader_its_own_bits(
    wanting: Wanting, monkeypatch: pytest.MonkeyPatch, off: str | None
) -> None:
    readers = [GLOBAL, LOCAL, BEFORE, TOKENS, GLOBAL]
    alone = [wanting(reader, feature_cache="off") for reader in readers]
    Tint.seen.clear()
    settled = wanting.settled({"feature_cache": off or wanting.folder})
    together = extract_each(readers, tints(10), **settled)
    assert sorted(Tint.seen) == list(range(10))  # each image once
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    assert [set(f.features.tensors()) for f in together[:2]] == [{"global"}, {"global", "local"}]
    if off is None:
        assert len(wanting.files) == 9  # three kinds; what is global is read of one of them
        Tint.seen.clear()
        assert same(wanting(GLOBAL), alone[0]) and Tint.seen == []


def test_a_tower_that_reads_more_for_its_tokens_is_not_taken_for_the_plain_one(tiny_resnet: Backbone) -> None:
    assert not tiny_resnet.vision.shares_global(TOKENS.needs) and tiny_resnet.vision.shares_global(LOCAL.needs)
    images = torch.rand(3, 3, *tiny_resnet.preprocess.sides, generator=torch.Generator().manual_seed(0))
    needs = [ImageNeeds(), TOKENS.needs, LOCAL.needs]
    for one, found in zip(needs, tiny_resnet.encode_image_each(images, needs), strict=True):
        plain = tiny_resnet.encode_image(images, one).tensors()
        assert all(torch.equal(plain[name], tensor) for name, tensor in found.tensors().items())


def test_what_others_compute_is_left_to_them(wanting: Wanting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has the first file: the rest is done meanwhile, and then what it has written is read."""
    other = Wanting(wanting.backbone, wanting.folder.with_name("elsewhere"))
    expected = other()
    wanting.folder.mkdir()
    first = next(f for f in other.files if len(shard.opened(f, None)[1]["global"]) == 4 and starts_with(f, expected))
    Tint.seen.clear()
    with ExitStack() as theirs:
        theirs.enter_context(claim(wanting.folder, first.stem, "computing"))

        def wait(seconds: float) -> None:
            assert Tint.seen == [4, 5, 6, 7, 8, 9]
            (wanting.folder / first.name).write_bytes(first.read_bytes())
            theirs.close()

        monkeypatch.setattr(claims_work.time, "sleep", wait)
        found = wanting()
    assert Tint.seen == [4, 5, 6, 7, 8, 9] and same(found, expected)
    assert any(text.startswith("waiting for computing") for text in wanting.progress.messages)


def starts_with(file: Path, features: CachedFeatures) -> bool:
    return torch.equal(shard.opened(file, None)[1]["global"], features.features.global_Bd[:4])


def killed_at_writing(folder: Path, steps: Any) -> None:
    """A process that stands still when its second file is written and not yet in its place."""
    import open_clip

    report, replace, done = reporting_to(steps), os.replace, []

    def standing(source: Any, target: Any) -> None:
        if "features-" in str(target):
            done.append(target)
            if len(done) == 2:
                report(0)
        replace(source, target)

    os.replace = standing
    plan.SHARD_ROWS = 5
    Wanting(Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer()), folder)()


def test_a_killed_process_leaves_what_is_whole(wanting: Wanting) -> None:
    process = Stepwise(killed_at_writing, wanting.folder)
    process.step()
    process.kill()
    process.join()
    assert len(wanting.files) == 1
    found = wanting()
    assert len(Tint.seen) == 6 and same(found, wanting(feature_cache="off")) and len(wanting.files) == 3
    assert wanting.progress.warnings == []


def test_what_does_not_fit_is_computed_as_before(wanting: Wanting) -> None:
    for _ in range(2):
        Tint.seen.clear()
        found = wanting(feature_limit=0)
        assert len(Tint.seen) == 10 and wanting.files == [] and found.held == found.bytes
    assert "kept in memory" in wanting.progress.messages[-1] and "--feature-limit" in wanting.progress.messages[-1]
    assert wanting.progress.warnings == [] and same(found, wanting(feature_cache="off"))
    one_file = wanting(n=4)
    size = sum(f.stat().st_size for f in wanting.files)
    full = wanting(feature_limit=(size + 1) / 1e9)  # what is there is read all the same
    assert len(wanting.files) == 1 and same(full, found) and one_file.source == "computed"


def test_a_store_that_others_fill_meanwhile_is_left_as_full(wanting: Wanting, monkeypatch: pytest.MonkeyPatch) -> None:
    room = iter([1e9, 1e9, 0, 0])  # of the plan, and of each file
    monkeypatch.setattr(Store, "room", property(lambda self: next(room)))
    found = wanting()
    assert len(wanting.files) == 1 and len(wanting.progress.warnings) == 1
    assert "goes on with them in memory" in wanting.progress.warnings[0] and same(found, wanting(feature_cache="off"))


@pytest.mark.parametrize(("dtype", "type_"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_the_bits_are_asked_for(wanting: Wanting, dtype: Any, type_: torch.dtype) -> None:
    exact = wanting(feature_cache="off").features.global_Bd
    first, again, memory = (wanting(feature_dtype=dtype, feature_cache=c) for c in (wanting.folder, None, "off"))
    again = wanting(feature_dtype=dtype)
    rounded = exact.to(type_).float()
    assert not torch.equal(rounded, exact)
    assert all(torch.equal(one.features.global_Bd, rounded) for one in (first, again, memory))
    assert shard.opened(wanting.files[0], None)[1]["global"].dtype == type_
    assert same(wanting(), wanting(feature_cache="off")) and len(wanting.files) == 6  # of each type


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UsageError, match="feature_dtype = 'fp31'"):
        Runtime(feature_dtype="fp31")  # type: ignore[arg-type]


def test_how_long_much_will_take_is_said_after_the_first_batch() -> None:
    progress, seconds = Hooked(), iter([10.0, 14.0])
    task = _Outlook(progress, 900, progress, lambda: next(seconds))
    task.advance(100)
    task.advance(100)
    assert progress.messages == ["about 36.0 s for 900 rows, by the first batch of 100"]
