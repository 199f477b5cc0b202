"""Several views of each image in a step, and images without labels beside them: which they are, what they are for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.training.material import Hooked, config, log_lines, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import CachedFeatures
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.data.images import read_image
from vlmprompt.data.loader import ImageLoader
from vlmprompt.errors import InputError, PluginError, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.training.batches import FeatureBatches
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.order import cycled, epoch_generator
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run
from vlmprompt.training.trainset import load_trainset

HERE = __name__
Views = Sequence[Tensor | ImageFeatures]


class TwoViews(CoOp):
    """CoOp whose two views are to agree."""

    training_views = 2
    given: ClassVar[list[Views]] = []

    def forward_views(self, views: Views) -> MethodOutput:
        self.given.append(views)
        first, second = (self(view) for view in views)
        return MethodOutput(first.logits, first.scale, aux={"second": second.logits})

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        losses = super().loss(output, labels, **more)
        apart = (output.logits - output.aux["second"]).square().mean()
        return Losses(losses.total + apart, {**losses.parts, "apart": apart.detach()})


class Unlabelled(CoOp):
    """CoOp that is to be sure of images without labels: the mean entropy is added."""

    reads_unlabelled = True
    outputs: ClassVar[list[MethodOutput]] = []
    extra_labels: ClassVar[list[Tensor | None]] = []

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        self.extra_labels.append(labels)
        return {}

    def unlabelled_loss(self, output: MethodOutput) -> Losses:
        self.outputs.append(output)
        entropy = -(output.logits.softmax(-1) * output.logits.log_softmax(-1)).sum(-1).mean()
        return Losses(entropy, {"entropy": entropy.detach()})


class Both(TwoViews, Unlabelled):
    """Two views, and images without labels."""


@pytest.fixture(autouse=True)
def _forget() -> None:
    TwoViews.given.clear()
    Unlabelled.outputs.clear()
    Unlabelled.extra_labels.clear()


def trained(
    folder: Path, photos: Path, backbone: Backbone, cls: type[CoOp], *, progress: Any = None, **changes: Any
) -> Run:
    with registered("under_test", cls, module=HERE):
        settings, place = config(photos, method="under_test", **changes), folder / "run"
        done = train(settings, runtime(folder), out=place, backbone=backbone, resume="maybe", progress=progress)
        return load_run(done.run)


def seeded(*parts: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


@pytest.mark.parametrize("cls", [TwoViews, Both])
def test_views_of_a_step_by_hand(photos: Path, tiny_backbone: Backbone, tmp_path: Path, cls: type[TwoViews]) -> None:
    run = trained(tmp_path, photos, tiny_backbone, cls, epochs=1, shots=2)
    first, second = TwoViews.given[0]
    assert isinstance(first, Tensor) and isinstance(second, Tensor) and len(TwoViews.given) == (4 if cls is Both else 2)
    order = torch.randperm(8, generator=epoch_generator(1, 0))
    with registered("under_test", cls, module=HERE):
        records = {record.id: record for record in run.load_dataset().splits["train"]}
    transform = tiny_backbone.transform(train=True)
    for row, index in enumerate(order[:4].tolist()):
        image = read_image(records[run.info.data.train_ids[index]])
        for views, seed in ((first, seeded(1, 0, index)), (second, seeded(1, 0, -1, index))):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                assert torch.equal(views[row], transform(image))
    assert "2 views of each image" in run.info.features
    [line, *_] = log_lines(run.path)
    assert line["parts"]["apart"] > 0


def test_the_loader_decodes_once_and_keeps_its_first_view(photos: Path, tiny_backbone: Backbone) -> None:
    records = load_trainset(config(photos), runtime(photos)).split.train[:3]
    transform = tiny_backbone.transform(train=True)
    one, three = (
        next(iter(ImageLoader(records, transform, 3, augment_seed=(1, 0), views=views))).images_B3HW for views in (1, 3)
    )
    assert three.shape == (3, 3, *one.shape[1:]) and torch.equal(three[:, 0], one)
    assert not torch.equal(three[:, 1], one) and not torch.equal(three[:, 1], three[:, 2])


def test_recorded_views_of_a_step_differ() -> None:
    n, recorded = 5, 4
    rows = torch.arange(recorded).repeat_interleave(n) * 10 + torch.arange(n).repeat(recorded)  # view * 10 + image
    cached = CachedFeatures(ImageFeatures(rows[:, None].float()), torch.arange(n).repeat(recorded), recorded)
    batches = FeatureBatches(cached, 2, seed=3, device=torch.device("cpu"), views=3)
    alone = FeatureBatches(cached, 2, seed=3, device=torch.device("cpu"))
    seen = set()
    for epoch in range(40):
        for batch, single in zip(
            batches.epoch(epoch, skip=0, steps=2), alone.epoch(epoch, skip=0, steps=2), strict=True
        ):
            assert torch.equal(batch.images.global_Bd, single.images.global_Bd)  # type: ignore[union-attr]
            found = torch.stack([view.global_Bd[:, 0] for view in batch.views])  # type: ignore[union-attr]
            assert (found % 10 == batch.index_B).all() and torch.equal(batch.labels_B, batch.index_B)
            for column in found.T.div(10, rounding_mode="floor").tolist():
                assert len(set(column)) == 3
                seen.add(tuple(column))
    assert len(seen) == 4 * 3 * 2  # every choice of three in any order
    [last] = list(batches.epoch(7, skip=1, steps=2))
    assert torch.equal(last.others[1].global_Bd, list(batches.epoch(7, skip=0, steps=2))[1].others[1].global_Bd)  # type: ignore[union-attr]


def test_cycled_takes_all_in_turn() -> None:
    order = cycled(5, 12, torch.Generator().manual_seed(0))
    turns = order.index_n.split(5)
    assert [sorted(turn.tolist()) for turn in turns[:2]] == [[0, 1, 2, 3, 4]] * 2
    assert turns[0].tolist() != turns[1].tolist() and len(set(turns[2].tolist())) == 2
    assert order.again_n.tolist() == [0] * 5 + [1] * 5 + [2] * 2


@pytest.mark.parametrize("views", [0, 2])
def test_images_without_labels_come_along(photos: Path, tiny_backbone: Backbone, tmp_path: Path, views: int) -> None:
    run = trained(tmp_path, photos, tiny_backbone, Unlabelled, shots=1, views=views, epochs=2)
    data = run.info.data
    assert (len(data.train_ids), len(data.val_ids), data.unlabelled) == (4, 4, 12)
    assert "| images without labels | 12, of the training split |" in (run.path / "MODEL_CARD.md").read_text()
    assert [len(output.logits) for output in Unlabelled.outputs] == [4, 4]  # a step an epoch, as many as have labels
    for line in log_lines(run.path):
        if not line.get("epoch_end"):
            parts = line["parts"]
            assert line["loss"] == pytest.approx(parts["ce"] + parts["unlabelled"], rel=1e-5)
            assert parts["unlabelled"] == parts["unlabelled_entropy"] > 0
    # With features computed once: those of two views with labels, those of two without.
    told = [labels is not None for labels in Unlabelled.extra_labels]
    assert told == [True] * views + [False] * views


def test_which_images_they_are(photos: Path, tmp_path: Path) -> None:
    def data(**changes: Any) -> Any:
        with registered("under_test", Unlabelled, module=HERE):
            return load_trainset(config(photos, method="under_test", **changes), runtime(tmp_path))

    few, some, whole = data(shots=1), data(shots=3), data(shots=None)
    used = {record.id for record in (*few.split.train, *few.split.val)}
    ids = {record.id for record in few.unlabelled}
    assert len(ids) == 12 and ids.isdisjoint(used) and {record.label for record in few.unlabelled} == {-1}
    assert ids | used == {record.id for record in few.dataset.splits["train"]}
    assert some.unlabelled == ()  # three are shots, two validate
    assert {record.id for record in whole.unlabelled} == {record.id for record in whole.split.train}
    base = data(shots=1, setting="base-to-new")
    own = {record.id for record in few.dataset.splits["train"] if record.label in base.labels}
    assert len(base.unlabelled) == 6 and own.issuperset(record.id for record in base.unlabelled)
    with_labels = load_trainset(config(photos, shots=1), runtime(tmp_path))
    assert with_labels.split == few.split and with_labels.digests.learned != few.digests.learned


def test_a_run_resumes_to_the_same_bytes(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", photos, tiny_backbone, Both, shots=2, batch_size=3)

    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, photos, tiny_backbone, Both, shots=2, batch_size=3, progress=Hooked(stop))
    resumed = trained(tmp_path, photos, tiny_backbone, Both, shots=2, batch_size=3)
    assert resumed.digest == whole.digest


def test_the_dry_run_counts_views_and_images(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    def flops(cls: type[CoOp]) -> Any:
        with registered("under_test", cls, module=HERE):
            report = dry_run(config(photos, method="under_test", shots=1), runtime(tmp_path), backbone=tiny_backbone)
        return report["flops"], report["data"]["unlabelled_images"]

    (one, none), (two, _), (more, count) = flops(CoOp), flops(TwoViews), flops(Unlabelled)
    assert (none, count) == (0, 12)
    assert two["step"] == pytest.approx(2 * one["step"], rel=1e-3) == pytest.approx(more["step"], rel=1e-3)


@pytest.mark.parametrize(
    ("cls", "changes", "error", "message"),
    [
        (TwoViews, {"views": 1}, UsageError, "views = 1 cannot be used with method 'under_test': it takes 2 different"),
        (TwoViews, {"augment": False}, UsageError, "augment = false cannot be used"),
        (Unlabelled, {"shots": 3}, InputError, "also trains on images without labels, and folder:"),
    ],
)
def test_what_a_run_cannot_have(
    photos: Path,
    tiny_backbone: Backbone,
    tmp_path: Path,
    cls: type[CoOp],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        trained(tmp_path, photos, tiny_backbone, cls, **changes)


class NoViews(CoOp):
    training_views = 0


class NoLoss(CoOp):
    reads_unlabelled = True


class Sometimes(Unlabelled):
    reads_unlabelled = property(lambda self: True)  # type: ignore[assignment]


class Loopless(Unlabelled):
    capabilities = frozenset({"new_classes", "feature_cache", "training_free"})


class WrongViews(TwoViews):
    def forward_views(self, views: Views) -> MethodOutput:
        found = torch.cat([self(view).logits for view in views])
        return MethodOutput(found, 1.0)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoViews, "training_views = 0 is no number of views"),
        (NoLoss, "reads_unlabelled is True, but there is no unlabelled_loss"),
        (Sometimes, "reads_unlabelled is not said by the class"),
        (Loopless, "reads_unlabelled is for a training loop, and capabilities holds 'training_free'"),
    ],
)
def test_what_a_method_cannot_say(tiny_backbone: Backbone, cls: type[CoOp], message: str) -> None:
    with registered("under_test", cls, module=HERE), pytest.raises(PluginError) as caught:
        build_method("under_test", tiny_backbone, ("a fox", "a wolf"))
    assert message in caught.value.message


def test_an_output_is_of_the_images_and_not_of_their_views(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=r"gives logits of shape \(8, 4\) for 4 images"):
        trained(tmp_path, photos, tiny_backbone, WrongViews)
