"""Where a run's training batches come from: its images, or features of them that are computed once."""

from __future__ import annotations

from collections.abc import Sequence

from vlmprompt.backbones.features import CachedFeatures, extract
from vlmprompt.data.records import Record
from vlmprompt.parallel.group import ALONE, Group
from vlmprompt.progress import Progress
from vlmprompt.training.batches import Batches, FeatureBatches, ImageBatches, Sampling, WithUnlabelled
from vlmprompt.training.setup import Setup


def make_batches(
    setup: Setup, progress: Progress, known: CachedFeatures | None = None, group: Group = ALONE
) -> Batches:
    """The source of training batches, with features computed now if the run caches them.

    Args:
        known: features of the training images that were computed before, taken where they are of as many views.
        group: of processes that divide each batch.
    """
    train, records = setup.config.train, setup.data.split.train
    if setup.cached and (known is None or known.views != setup.recorded_views):
        known = train_features(setup, setup.recorded_views, progress)
    batches = _batches(setup, records, known, train.batch_size, train.sampling, group)
    if not setup.method.reads_unlabelled:
        return batches
    unlabelled = _unlabelled_features(setup, progress) if setup.cached else None
    size = min(train.batch_size, len(records))
    return WithUnlabelled(batches, _batches(setup, setup.data.unlabelled, unlabelled, size, "cycled"))


def train_features(setup: Setup, views: int, progress: Progress) -> CachedFeatures:
    """Features of the training images."""
    return _features(setup, setup.data.split.train, views, progress, "training images")


def _unlabelled_features(setup: Setup, progress: Progress) -> CachedFeatures:
    views, records = setup.recorded_views, setup.data.unlabelled
    return _features(setup, records, views, progress, "images without labels", labelled=False)


def _batches(
    setup: Setup,
    records: Sequence[Record],
    cached: CachedFeatures | None,
    size: int,
    sampling: Sampling,
    group: Group = ALONE,
) -> Batches:
    """Of images, or of their features where the run caches them."""
    config, views = setup.config, setup.method.training_views
    if setup.cached:
        assert cached is not None
        seed, device = config.seed, setup.device
        return FeatureBatches(cached, size, seed=seed, device=device, sampling=sampling, views=views, group=group)
    return ImageBatches(
        records,
        setup.backbone.transform(train=config.train.augment),
        size,
        seed=config.seed,
        augment=config.train.augment,
        device=setup.device,
        workers=setup.runtime.workers,
        sampling=sampling,
        views=views,
        group=group,
    )


def _features(
    setup: Setup,
    records: Sequence[Record],
    views: int,
    progress: Progress,
    what: str,
    *,
    labelled: bool = True,
) -> CachedFeatures:
    with setup.method.blamed(wide=True):
        return extract(
            setup.method,
            records,
            backbone=setup.backbone,
            runtime=setup.runtime,
            views=views,
            seed=setup.config.seed,
            batch_size=setup.config.train.eval_batch_size,
            progress=progress,
            description=f"features of {what}",
            labelled=labelled,
        )
