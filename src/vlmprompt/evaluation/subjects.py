"""Who is measured: a trained run, and the references that stand beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import resolve
from vlmprompt.evaluation.contract import Subject
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.variants import differs_in_shots_only, run_level_flags
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.plugins import host
from vlmprompt.training.provenance import RUN_FILE
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, find_runs, load_run

REFERENCES = ("zeroshot", "linear_probe")
# What a reference shares with the run beside it; everything else is its own method's default.
SHARED = ("train.precision", "train.eval_batch_size")


def run_subject(run: Run, resources: Resources) -> Subject:
    """A trained run. Its siblings are the runs in the same folder that differ in shots only."""
    untrained = is_training_free(run.config.method)
    return Subject(
        run=run.name,
        config=run.config,
        shots=None if untrained else run.config.shots,
        seed=None if untrained else run.config.seed,
        digest=run.digest,
        build=lambda: run.build_method(resources.backbone(run.config)),
        siblings=partial(_sibling_runs, run, resources),
        sources=run.info.sources,
    )


@dataclass(frozen=True)
class References:
    """Reference methods beside runs; each is trained when it is first needed, and kept.

    Args:
        folder: where they are kept, as runs.
        force: train them again.
    """

    folder: Path
    resources: Resources
    force: bool = False

    def subject(self, name: str, beside: Subject, data_digest: str) -> Subject:
        """A reference method that learns from what another subject learned from.

        Args:
            data_digest: of the data set as it is now.
        """
        config = reference_config(name, beside.config)
        untrained = is_training_free(name)
        return Subject(
            run=beside.run,
            config=config,
            shots=None if untrained else config.shots,
            seed=None if untrained else config.seed,
            digest="",
            build=lambda: self._method(config, data_digest),
            siblings=lambda: {k: self.subject(name, other, data_digest) for k, other in beside.siblings().items()},
            reference=True,
        )

    def _method(self, config: RunConfig, data_digest: str) -> PromptMethod:
        resources = self.resources
        backbone = resources.backbone(config)
        digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        path = self.folder / f"{config.method}-{digest[:12]}"
        if self.force or not _stands(path, data_digest, backbone.digest):
            train(config, resources.runtime, out=path, force=True, progress=resources.progress, backbone=backbone)
        return load_run(path).build_method(backbone)


def reference_config(name: str, beside: RunConfig) -> RunConfig:
    """The configuration of a reference method: same data, towers, shots and seed, its own defaults.

    A method that learns nothing gets one configuration for all shots and seeds.
    """
    flags = run_level_flags(beside) | {"method": name, "preset": None}
    if is_training_free(name):
        flags |= {"shots": "all", "seed": 0}
    flags |= {key: getattr(beside.train, key.removeprefix("train.")) for key in SHARED}
    return resolve(flags, env={}).run


def is_training_free(method: str) -> bool:
    """Whether a method learns nothing, so that shots and seed mean nothing."""
    cls: type[PromptMethod] = host().methods.get(method).load()
    return "training_free" in cls.capabilities


def _stands(path: Path, data_digest: str, backbone_digest: str) -> bool:
    """Whether a finished run on these data and towers is there; its configuration is in its name."""
    if not (path / RUN_FILE).exists():
        return False
    info = load_run(path).info
    return (info.status, info.data.digest, info.backbone.digest) == ("finished", data_digest, backbone_digest)


def _sibling_runs(run: Run, resources: Resources) -> Mapping[int | None, Subject]:
    """Shots -> run. Of several with equal shots the newest counts; the run itself always does."""
    found = {}
    for other in reversed(find_runs(run.path.resolve().parent)):
        if differs_in_shots_only(run.config, other.config, run.info.sources):
            found[other.config.shots] = run_subject(other, resources)
    return found | {run.config.shots: run_subject(run, resources)}
