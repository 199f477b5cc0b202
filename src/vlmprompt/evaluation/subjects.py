"""Who is measured: a trained run, and the references that stand beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vlmprompt.claims.claim import claim
from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import resolve
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import DescriptionFile, describe, find
from vlmprompt.errors import InputError
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.variants import differs_in_shots_only, run_level_flags
from vlmprompt.methods.build import description_use, method_type, template_option
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.stream_order import is_streamed
from vlmprompt.parallel.meeting import alone
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.provenance import versions
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, find_runs, load_run

REFERENCES = ("zeroshot", "descriptions", "linear_probe")
# What a reference shares with the run beside it; everything else is its own method's default.
SHARED = ("train.precision", "train.eval_batch_size")


def run_subject(run: Run, resources: Resources, *, temperature: float | None = None) -> Subject:
    """A trained run. Its siblings are the runs in the same folder that differ in shots only.

    Args:
        temperature: to measure it at.
    """
    shots, seed = shots_and_seed(run.config)
    return Subject(
        run=run.name,
        config=run.config,
        shots=shots,
        seed=seed,
        digest=run.digest,
        build=lambda: run.build_method(resources.backbone(run.config)),
        siblings=partial(_sibling_runs, run, resources),
        descriptions=run.descriptions,
        sources=run.info.sources,
        state="" if run.info.kept is None else run.info.kept.words,
        temperature=temperature,
    )


@dataclass(frozen=True)
class References:
    """Reference methods beside runs; each is trained when it is first needed, by one process, and kept.

    Args:
        folder: where they are kept, as runs.
        force: train them again.
        descriptions: for methods that read some, in place of the subject's own and of those that are found.
    """

    folder: Path
    resources: Resources
    force: bool = False
    descriptions: DescriptionFile | None = None

    def beside(self, subject: Subject, names: Sequence[str], dataset: Dataset) -> list[Subject]:
        """The reference methods that can stand beside a subject: one that reads descriptions needs some.

        Args:
            dataset: as it is now.
        """
        found = []
        for name in names:
            file = self._descriptions(name, subject, dataset)
            if file is not None or not _reads(name):
                found.append(self.subject(name, subject, dataset.digest, file))
        return found

    def subject(
        self, name: str, beside: Subject, data_digest: str, descriptions: DescriptionFile | None = None
    ) -> Subject:
        """A reference method that learns from what another subject learned from.

        Args:
            data_digest: of the data set as it is now.
            descriptions: for a method that reads some.
        """
        config = reference_config(name, beside.config)
        shots, seed = shots_and_seed(config)
        return Subject(
            run=beside.run,
            config=config,
            shots=shots,
            seed=seed,
            digest="" if descriptions is None else descriptions.digest,
            build=lambda: self._method(config, data_digest, descriptions),
            siblings=lambda: {
                k: self.subject(name, other, data_digest, descriptions) for k, other in beside.siblings().items()
            },
            reference=True,
            descriptions=descriptions,
        )

    def _descriptions(self, name: str, beside: Subject, dataset: Dataset) -> DescriptionFile | None:
        """What the subject itself reads, or else what is found; a row that nobody asked for fails nothing."""
        if not _reads(name):
            return None
        config = beside.config
        try:
            file = self.descriptions or beside.descriptions
            if file is None:
                file = find(dataset) if config.descriptions is None else DescriptionFile.read(config.descriptions)
            if file is not None:
                describe(dataset, file, need=() if config.allow_missing else range(len(dataset.class_names)))
        except InputError as error:
            self.resources.progress.warn(f"no row of {name} beside {beside.run}: {error.told}")
            return None
        return file

    def _method(self, config: RunConfig, data_digest: str, descriptions: DescriptionFile | None) -> PromptMethod:
        resources = self.resources
        backbone = resources.backbone(config)
        dtype = resources.runtime.feature_dtype
        settings = config.model_dump_json() + ("" if dtype == "fp32" else dtype)
        digest = hashlib.sha256(settings.encode()).hexdigest()
        path = self.folder / f"{config.method}-{digest[:12]}"
        digests = data_digest, backbone.digest, None if descriptions is None else descriptions.digest
        if self.force or not _stands(path, *digests):
            with claim(self.folder, path.name, f"reference {path}"):
                if self.force or not _stands(path, *digests):  # another process may have trained it by now
                    with alone():  # of several processes each has or trains its own
                        train(
                            config,
                            resources.runtime.model_copy(update={"tracker": ()}),  # asked for runs, not for these
                            out=path,
                            force=True,
                            progress=resources.progress,
                            backbone=backbone,
                            descriptions=descriptions,
                        )
        return load_run(path).build_method(backbone)


def reference_config(name: str, beside: RunConfig) -> RunConfig:
    """The configuration of a reference method: same data, towers, shots and seed, its own defaults.

    A method that learns nothing gets one configuration for all shots and, unless it adapts at test time, all seeds.
    """
    # Descriptions are found by `References`; where none are read, they must not make two references of one.
    flags = run_level_flags(beside) | {"method": name, "preset": None, "descriptions": None}
    if not _reads(name):
        flags |= {"allow_missing": None}
    if template_option(name) is None:
        flags |= {"templates": None}
    if is_training_free(name):
        flags |= {"shots": "all"} if is_seeded(name) else {"shots": "all", "seed": 0}
    flags |= {key: getattr(beside.train, key.removeprefix("train.")) for key in SHARED}
    return resolve(flags, env={}).run


def is_training_free(method: str) -> bool:
    """Whether a method learns nothing, so that shots mean nothing, and a seed only where `is_seeded` says so."""
    return "training_free" in method_type(method).capabilities


def is_seeded(method: str) -> bool:
    """Whether numbers depend on the seed: by what was learned, or by the order of test streams."""
    return not is_training_free(method) or is_streamed(method)


def shots_and_seed(config: RunConfig) -> tuple[int | None, int | None]:
    """Shots and seed as rows give them, see `Subject`."""
    if not is_training_free(config.method):
        return config.shots, config.seed
    return (0, config.seed) if is_seeded(config.method) else (None, None)


def _reads(method: str) -> bool:
    """Whether a reference method, with its own defaults, reads descriptions."""
    return description_use(method) != "never"


def _stands(path: Path, data_digest: str, backbone_digest: str, descriptions_digest: str | None) -> bool:
    """Whether a finished run of today's code on these data and towers is there; its configuration is in its name."""
    if not (path / RUN_FILE).exists():
        return False
    info = load_run(path).info
    found = info.data.digest, info.backbone.digest, info.descriptions and info.descriptions.digest
    same = found == (data_digest, backbone_digest, descriptions_digest) and info.versions == versions(
        info.config.method
    )
    return info.status == "finished" and same


def _sibling_runs(run: Run, resources: Resources) -> Mapping[int | None, Subject]:
    """Shots -> run. Of several with equal shots the newest counts; the run itself always does."""
    found = {}
    for other in reversed(find_runs(run.path.resolve().parent)):
        if differs_in_shots_only(run.config, other.config, run.info.sources):
            found[other.config.shots] = run_subject(other, resources)
    return found | {run.config.shots: run_subject(run, resources)}
