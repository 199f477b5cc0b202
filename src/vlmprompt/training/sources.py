"""Where a run's training batches come from: its images, or features of them that are computed once."""

from __future__ import annotations

from vlmprompt.backbones.features import CachedFeatures, extract
from vlmprompt.progress import Progress
from vlmprompt.training.batches import Batches, FeatureBatches, ImageBatches
from vlmprompt.training.setup import Setup


def make_batches(setup: Setup, progress: Progress, known: CachedFeatures | None = None) -> Batches:
    """The source of training batches, with features computed now if the run caches them.

    Args:
        known: features of the training images that were computed before, taken where they are of as many views.
    """
    config, records = setup.config, setup.data.split.train
    if setup.cached:
        same = known is not None and known.views == config.train.views
        cached = known if known is not None and same else train_features(setup, config.train.views, progress)
        return FeatureBatches(
            cached, config.train.batch_size, seed=config.seed, device=setup.device, sampling=config.train.sampling
        )
    return ImageBatches(
        records,
        setup.backbone.transform(train=config.train.augment),
        config.train.batch_size,
        seed=config.seed,
        augment=config.train.augment,
        device=setup.device,
        workers=setup.runtime.workers,
        sampling=config.train.sampling,
    )


def train_features(setup: Setup, views: int, progress: Progress) -> CachedFeatures:
    """Features of the training images."""
    with setup.method.blamed(wide=True):
        return extract(
            setup.method,
            setup.data.split.train,
            backbone=setup.backbone,
            runtime=setup.runtime,
            views=views,
            seed=setup.config.seed,
            batch_size=setup.config.train.eval_batch_size,
            progress=progress,
            description="features of training images",
        )
