"""Towers and test features that many runs share."""

from __future__ import annotations

from functools import partial
from typing import Any

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.load import load_measured
from vlmprompt.data.records import Dataset
from vlmprompt.evaluation.images import ImageBank
from vlmprompt.progress import Progress
from vlmprompt.training.device import resolve_device
from vlmprompt.training.runs import Run


class Resources:
    """Loads each backbone once.

    Args:
        runtime: where everything lives.
        progress: of whatever loads or computes.
        backbone: towers in memory, in place of loading any.
        spec: where the towers' weights are now, in place of where the runs say.
    """

    def __init__(
        self, runtime: Runtime, progress: Progress, backbone: Backbone | None = None, *, spec: str | None = None
    ) -> None:
        self.runtime = runtime
        self.progress = progress
        self._given = backbone
        self._spec = spec
        self._runs: dict[tuple[object, ...], Run] = {}
        self._backbones: dict[tuple[object, ...], Backbone] = {}
        self._banks: dict[tuple[object, ...], ImageBank] = {}
        self._datasets: dict[tuple[object, ...], Dataset] = {}

    def serve(self, run: Run) -> None:
        """Have the towers of a run's configuration be those of the run: loaded from where they are, held against it."""
        self._runs[_key(run.config)] = run

    def backbone(self, config: RunConfig) -> Backbone:
        """The towers of a configuration.

        Raises:
            VlmPromptError: see `load_backbone`; of a run that is served, they are not those of its training.
        """
        key = _key(config)
        run = self._runs.get(key)
        found = self._given or self._loaded(config, key, run)
        if run is not None:
            run.require_backbone(found)
        return found

    def _loaded(self, config: RunConfig, key: tuple[object, ...], run: Run | None) -> Backbone:
        if key not in self._backbones:
            self._backbones[key] = load_backbone(
                self._spec or (config.backbone if run is None else run.backbone_spec()),
                device=str(resolve_device(self.runtime.device)),
                precision=config.train.precision,
                quick_gelu=config.quick_gelu,
                random_weights=config.random_weights,
                image_size=config.image_size,
            )
        return self._backbones[key]

    def dataset(self, spec: str, **reading: Any) -> Dataset:
        """A data set to measure on, read once; what is doubtful of it is said then.

        Args:
            reading: see `load_measured`.

        Raises:
            VlmPromptError: see `load_measured`.
        """
        key = (spec, *sorted(reading.items()))
        if key not in self._datasets:
            dataset = self._datasets[key] = load_measured(spec, root=self.runtime.root, **reading)
            for doubt in dataset.warnings:
                self.progress.warn(f"{spec}: {doubt}")
        return self._datasets[key]

    def bank(self, config: RunConfig) -> ImageBank:
        """Test images as the towers of a configuration see them; nothing is loaded before it is needed."""
        key = _key(config)
        if key not in self._banks:
            load = partial(self.backbone, config)
            batch_size = config.train.eval_batch_size
            self._banks[key] = ImageBank(load, self.runtime, batch_size=batch_size, progress=self.progress)
        return self._banks[key]

    def expect_no_more(self) -> None:
        """All that was expected to be read of images has been."""
        for bank in self._banks.values():
            bank.expect_no_more()


def _key(config: RunConfig) -> tuple[object, ...]:
    train = config.train
    return (
        config.backbone,
        config.random_weights,
        config.quick_gelu,
        config.image_size,
        train.precision,
        train.eval_batch_size,
    )
