"""What a run learns from: the data set, the classes of its setting, and the shots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.classes import base_new_labels
from vlmprompt.data.configured import load_run_dataset
from vlmprompt.data.contents import files_digest
from vlmprompt.data.copies import settle_copies
from vlmprompt.data.fewshot import SAMPLER_OF, FewShotSplit, sample, with_val
from vlmprompt.data.records import Dataset, Record
from vlmprompt.describe.library import DescriptionFile, choose, describe
from vlmprompt.methods.build import description_use, method_type


class DataDigests(NamedTuple):
    """What tells data apart: all that the data set lists, and what a run learns from."""

    listed: str
    learned: str


@dataclass(frozen=True)
class TrainSet:
    """The data of a run.

    Attributes:
        dataset: whole, with all its classes.
        labels: those trained on, in the data set's numbering; records of `split` are relabelled from 0.
        class_names: their names.
        split: the shots.
        val_source: where the validation shots come from.
        description_file: where `dataset.descriptions` come from; None where the method reads none.
        unlabelled: images that are trained on without their labels, which are -1; empty where the method reads none.
    """

    dataset: Dataset
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    split: FewShotSplit
    val_source: str
    description_file: DescriptionFile | None = None
    unlabelled: tuple[Record, ...] = ()

    @cached_property
    def digests(self) -> DataDigests:
        """Of the data set, and of what is learned from: class names, the shots, and the sizes of their files.

        Not of the test split, which changes nothing that is learned; nor of times, which a copy need not keep.
        """
        files = files_digest((*self.split.train, *self.split.val, *self.unlabelled), times=False)
        learned = [self.dataset.class_names, self.labels, self.split.digest, files]
        learned += [[record.id for record in self.unlabelled]] if self.unlabelled else []
        content = json.dumps(learned, ensure_ascii=False)
        return DataDigests(self.dataset.digest, hashlib.sha256(content.encode()).hexdigest())

    @property
    def descriptions(self) -> tuple[tuple[str, ...], ...] | None:
        """Texts on each of `class_names`, or None."""
        texts = self.dataset.descriptions
        return None if texts is None else tuple(texts[label] for label in self.labels)


def load_trainset(
    config: RunConfig, runtime: Runtime, descriptions: DescriptionFile | None = None, *, draw: bool = True
) -> TrainSet:
    """Read the data set, draw the shots over all classes, then keep the classes of the setting.

    A method without training needs no training images, and gets none; one that reads descriptions gets those.

    Args:
        descriptions: in place of those that `config` names or that are found for the data set.
        draw: take training images; off where the method comes trained.

    Raises:
        UsageError, InputError: see `load_dataset`, `sample`, `settle_copies` and, for descriptions, `choose` and
            `describe`.
    """
    dataset = load_run_dataset(config, runtime.root)
    method = method_type(config.method)
    split, val_source = FewShotSplit((), (), config.shots, config.seed), "none: nothing is trained"
    if draw and "training_free" not in method.capabilities:
        sampler = SAMPLER_OF[config.protocol]
        split = sample(dataset, config.shots, config.seed, allow_fewer=config.allow_fewer, sampler=sampler)
        split, val_source = with_val(dataset, split)
    dataset, split = settle_copies(dataset, split, allow=config.allow_overlap)
    all_labels = labels = range(len(dataset.class_names))
    if config.setting == "base-to-new":
        labels, _ = base_new_labels(len(dataset.class_names))
    names = tuple(dataset.class_names[label] for label in labels)
    use = description_use(config.method, config.options)
    unlabelled = _unlabelled(dataset, split, labels) if draw and method.reads_unlabelled else ()
    known = TrainSet(dataset, tuple(labels), names, split.restrict(labels), val_source, unlabelled=unlabelled)
    if use == "never":
        return known
    file = descriptions or choose(dataset, config.descriptions)
    needed = all_labels if use == "always" else labels
    dataset = describe(dataset, file, need=() if config.allow_missing else needed)
    return replace(known, dataset=dataset, description_file=file)


def _unlabelled(dataset: Dataset, split: FewShotSplit, labels: Sequence[int]) -> tuple[Record, ...]:
    """The images of the training split that are neither trained on with labels nor validated on, of the run's classes.

    All of them where each is trained on with its label.
    """
    kept = set(labels)
    there = [record for record in dataset.splits.get("train", ()) if record.label in kept]
    drawn = {record.id for record in split.train}
    used = drawn | {record.id for record in split.val}
    others = there if drawn.issuperset(record.id for record in there) else [r for r in there if r.id not in used]
    return tuple(replace(record, label=-1) for record in others)
