"""The tools of suites: predictions of any method on any split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.models import FeatureDtype
from vlmprompt.data.aliases import Aliases
from vlmprompt.data.classes import base_new_labels
from vlmprompt.data.load import load_measured, load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import choose, describe
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.evaluation.images import ImageBank, Predictions
from vlmprompt.evaluation.subject import KINDS, Subject
from vlmprompt.methods.build import description_use
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score_config import ScoreOptions, measured_scores
from vlmprompt.methods.stream_order import back_in_place, stream_order
from vlmprompt.methods.streaming import TEST_TIME, adapts, joined, picked
from vlmprompt.methods.texts import require_texts_fit
from vlmprompt.parallel.exchange import side_by_side
from vlmprompt.parallel.group import ALONE
from vlmprompt.parallel.meeting import current
from vlmprompt.predict.temperature import scaled
from vlmprompt.progress import SilentProgress

_LABELS = "labels of the images"  # beside the names that a caller gives


class Context:
    """One subject on one data set, for suites.

    Attributes:
        subject: the run or reference that is measured.
        dataset: the data set with all its classes, and with descriptions if the subject reads them.
        renamed: function that returns another data set with its classes renamed as here.
        score_options: options of plugins' scores, by name of the score, if not the defaults.

    Args:
        load: loads a data set by its spec, for `companion`.
        companions: kind -> specs, instead of the data set's own.
        aliases: names that companions use for classes of the data set.
    """

    def __init__(
        self,
        subject: Subject,
        dataset: Dataset,
        bank: ImageBank,
        *,
        load: Callable[[str], Dataset] = load_measured,
        companions: Mapping[str, Sequence[str]] | None = None,
        aliases: Aliases | None = None,
        score_options: ScoreOptions | None = None,
    ) -> None:
        self.subject = subject
        self.dataset = dataset if subject.descriptions is None else describe(dataset, subject.descriptions)
        self.renamed = (aliases or Aliases()).renamed
        self.score_options: ScoreOptions = score_options or {}
        self._load = load
        self._bank = bank
        self._companions = {**dataset.companions, **{k: v for k, v in (companions or {}).items() if v}}
        self._outliers: dict[str, Dataset] = {}
        self._built: dict[str, PromptMethod] = {}
        self._told: dict[tuple[int, str, str], tuple[PromptMethod, FrozenMethod]] = {}

    @property
    def scores(self) -> list[str]:
        """Names of the scores to measure: the core's, and plugins' scores for which all needed options are given."""
        return measured_scores(self.score_options)

    @property
    def root(self) -> Path | None:
        """The parent folder of data sets."""
        return self._bank.root

    @property
    def feature_dtype(self) -> FeatureDtype:
        """The type that image features are rounded to."""
        return self._bank.feature_dtype

    def expect(self, needs: ImageNeeds, dataset: Dataset, split: str) -> None:
        """Announce which features of images will be read, so that one pass of the image tower computes them all."""
        self._bank.expect(needs, dataset, split)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._bank.progress.warn(text)

    def companion(self, spec: str, kind: str | None = None) -> Dataset:
        """Another data set to measure on, with its classes renamed as here.

        Args:
            kind: of KINDS; default: the kind under which `companions` has it. For "ood", all images that are of no
                known class count (see `load_outliers`); for the others, the test split, or all images if there is none.

        Raises:
            VlmPromptError: it cannot be read.
        """
        kind = kind or next((one for one in KINDS if spec in self.companions(one)), None)
        if kind != "ood":
            return self.renamed(self._load(spec))
        if spec not in self._outliers:
            exif = self.subject.config.exif
            self._outliers[spec] = self.renamed(load_outliers(spec, root=self.root, exif=exif))
        return replace(self._outliers[spec], by_contents=self.dataset.by_contents)

    def companions(self, kind: str) -> tuple[str, ...]:
        """Specs of the data sets of one kind that this one is evaluated with; see `Dataset.companions`.

        A suite's attribute `companions` says which kinds (of KINDS) it reads.
        """
        return tuple(self._companions.get(kind, ()))

    @cached_property
    def data_digest(self) -> str:
        """The digest of the data set and of its test images in their present state."""
        return self.dataset.measured_digest

    @cached_property
    def trained(self) -> Dataset:
        """The data set restricted to the classes that the subject was trained on."""
        return trained_classes(self.dataset, self.subject.config.setting)

    @cached_property
    def siblings(self) -> Mapping[int | None, Subject]:
        """Shots -> the subject trained with these shots and otherwise equal settings, including the subject itself."""
        return self.subject.siblings()

    def method(self, subject: Subject | None = None) -> PromptMethod:
        """The method of a subject (default: the context's own), built once.

        Raises:
            InputError: its classes are not those of the data set.
        """
        subject = subject or self.subject
        name = f"{subject.config.model_dump_json()}{subject.digest}"
        if name not in self._built:
            method = subject.build().eval()
            if method.class_names != self.trained.class_names:
                raise InputError(
                    f"data set {self.dataset.spec!r} has other classes than {subject.run} was trained on",
                    hint="evaluate on the data as they were, or train again",
                )
            self._built[name] = method
        return self._built[name]

    def method_over(self, dataset: Dataset) -> PromptMethod:
        """The subject's method for the classes of another data set, or of a part of its own.

        Raises:
            CapabilityError: it cannot serve classes that it was not trained on, or needs descriptions that are missing.
            InputError: the text of a class is too long for the tower.
        """
        method = self.method()
        if "new_classes" not in method.capabilities:
            name = self.subject.config.method
            raise CapabilityError(f"method {name} cannot serve classes that it was not trained on")
        known = self.described(dataset)
        other = method.with_classes(known.class_names, template=known.template, descriptions=known.descriptions)
        require_texts_fit(other)
        return other

    def described(self, dataset: Dataset) -> Dataset:
        """A data set with descriptions of its classes, if the subject's method needs descriptions of all classes.

        Raises:
            CapabilityError: there are none.
        """
        config = self.subject.config
        use = description_use(config.method, config.options)
        if dataset.descriptions is not None or use != "always":
            return dataset
        need = () if config.allow_missing else range(len(dataset.class_names))
        return describe(dataset, choose(dataset), need=need)

    def outputs(
        self, method: PromptMethod, dataset: Dataset, split: str = "test"
    ) -> Iterator[tuple[MethodOutput, Tensor]]:
        """The method's output for each batch, and the labels, in the order of the split.

        Text is encoded once, and nothing is trained. A method that adapts at test time sees the split as one stream, in
        the order of `stream_order`; its outputs are held until all images are seen, and then put back in the order of
        the split.

        Args:
            method: for the classes of `dataset`.
        """
        if not adapts(method):
            yield from self._said(method, dataset, split)
            return
        outputs, labels = zip(*self._said(method, dataset, split), strict=True)
        back_B, size = back_in_place(self._order(dataset, split)), len(labels[0])
        whole, labels_B = joined(outputs), torch.cat(labels)
        for part_B in back_B.split(size):
            yield picked(whole, part_B), labels_B[part_B.to(labels_B.device)]

    def read(
        self,
        method: PromptMethod,
        dataset: Dataset,
        split: str,
        what: Callable[[MethodOutput], Mapping[str, Tensor]],
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Some tensors for every image, and the labels, on the CPU and in the order of the split.

        With several processes, each reads a part of the images and all get the whole result; if the method adapts, each
        process reads all images, one after the other.

        The values are those of `outputs`, but for a method that adapts only these tensors are held in memory.

        Args:
            what: returns tensors (B,...) for the method's output on B images. The tensors of all batches are
                concatenated; a tensor that is not given for every image is left out.
        """
        group = ALONE if adapts(method) else current()
        if group.alone:
            found = self._read(self._said(method, dataset, split), what)
        else:
            own = self._bank.own(len(dataset.split(split)))
            found = side_by_side(group, lambda: self._read(self._said(method, dataset, split, own), what))
        labels_B = found.pop(_LABELS)
        values = {name: tensor for name, tensor in found.items() if len(tensor) == len(labels_B)}
        if not adapts(method):
            return values, labels_B
        back_B = back_in_place(self._order(dataset, split))
        return {name: value[back_B] for name, value in values.items()}, labels_B[back_B]

    def _read(
        self, said: Iterable[tuple[MethodOutput, Tensor]], what: Callable[[MethodOutput], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The tensors of all batches, concatenated on the CPU, and the labels."""
        found: dict[str, list[Tensor]] = {}
        for output, labels_B in said:
            for name, part in {**what(output), _LABELS: labels_B}.items():
                found.setdefault(name, []).append(part)
        return {name: torch.cat(parts).cpu() for name, parts in found.items()}

    def _said(
        self, method: PromptMethod, dataset: Dataset, split: str, own: range | None = None
    ) -> Iterator[tuple[MethodOutput, Tensor]]:
        """As `outputs`, but a stream in the order in which it is seen; only for the images `own`, if given."""
        frozen = self._frozen(method, dataset)
        order = self._order(dataset, split) if adapts(method) else own
        batches, from_features = self._bank.batches(
            frozen.method, dataset, split, order=order, seed=self.subject.config.seed
        )
        title = f"{self.subject.config.method} on {split} images of {dataset.name}"
        progress = self._bank.progress if _takes_time(method, from_features) else SilentProgress()
        images_n = len(dataset.split(split) if own is None else own)
        with progress.task(title, images_n, unit="img") as task:
            for images, labels_B in batches:
                yield frozen(images), labels_B
                task.advance(len(labels_B))

    def _order(self, dataset: Dataset, split: str) -> list[int]:
        return stream_order(dataset.split(split), split, self.subject.config.seed)

    def _frozen(self, method: PromptMethod, dataset: Dataset) -> FrozenMethod:
        """The method for one pass; `start_evaluation` runs once for each data set."""
        if type(method).start_evaluation is PromptMethod.start_evaluation:
            return method.frozen()
        key = id(method), dataset.spec, dataset.measured_digest
        if key not in self._told:
            self._told[key] = method, FrozenMethod.of(method, measured_on=dataset)
        return self._told[key][1].stream()

    def predict(self, method: PromptMethod, dataset: Dataset, split: str = "test") -> Predictions:
        """Logits (images,K) and labels of a whole split; at the subject's temperature, if it has one.

        Args:
            method: for the classes of `dataset`.

        Raises:
            InputError: no such split, or an image cannot be read.
        """
        temperature = self.subject.temperature
        found = self._kept(method, dataset, split)
        return found if temperature is None else Predictions(scaled(found.logits_BK, temperature), found.labels_B)

    def _kept(self, method: PromptMethod, dataset: Dataset, split: str) -> Predictions:
        names = [name for name, built in self._built.items() if built is method]
        if not names:
            return self._predicted(method, dataset, split)
        key = (*names, dataset.shown(split))
        return self._bank.predictions.get(key, lambda: self._predicted(method, dataset, split))

    def _predicted(self, method: PromptMethod, dataset: Dataset, split: str) -> Predictions:
        found, labels_B = self.read(method, dataset, split, lambda output: {"logits": output.logits.float()})
        return Predictions(found["logits"], labels_B)


def _takes_time(method: PromptMethod, from_features: bool) -> bool:
    """Whether to show progress: with stored features, only local features and text for each image take time."""
    return not from_features or not method.capabilities.isdisjoint({"local", "image_conditioned", TEST_TIME})


def trained_classes(dataset: Dataset, setting: str) -> Dataset:
    """The data set restricted to the classes that a setting trains on: the base half, or all."""
    if setting != "base-to-new":
        return dataset
    base, _ = base_new_labels(len(dataset.class_names))
    return dataset.restrict(base, suffix="-base")
