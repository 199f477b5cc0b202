"""The data that a run is measured on: its own as they are now, others in their place, and those beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlmprompt.config.models import RunConfig
from vlmprompt.data.aliases import Aliases, to_label_space
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError
from vlmprompt.evaluation.resources import Resources
from vlmprompt.training.runs import Run

# How the run reads data, which others are read by, too.
CONVENTIONS = ("accept_split", "protocol", "exif", "allow_outside")


def load_like(config: RunConfig, spec: str, resources: Resources, *, contents: bool) -> Dataset:
    """Another data set, read as a configuration says. Raises: VlmPromptError, see `load_measured`."""
    dataset = resources.dataset(spec, **{name: getattr(config, name) for name in CONVENTIONS})
    return replace(dataset, by_contents=True) if contents else dataset


@dataclass(frozen=True)
class Measured:
    """Reads data sets for the evaluation of one run.

    Args:
        aliases: other names of its classes.
        contents: know images by their bytes.
        allow_overlap: accept test images that the run has seen in training.
    """

    run: Run
    resources: Resources
    aliases: Aliases
    contents: bool
    allow_overlap: bool

    def load(self, spec: str) -> Dataset:
        """Another data set, by the conventions of the run. Raises: VlmPromptError, see `load_measured`."""
        return load_like(self.run.config, spec, self.resources, contents=self.contents)

    def beside(self, own: Dataset, spec: str) -> Dataset:
        """Another data set to measure the run on besides its own; images that it has seen in training are told."""
        dataset = self.load(spec)
        if seen := self.run.seen_among(own, dataset):
            self.resources.progress.warn(seen)
        return dataset

    def own(self, *, needed: bool) -> Dataset:
        """The run's data set; where it is not there and not needed, its classes alone, as far as the run knows them.

        Raises:
            InputError: it cannot be read, or is not fit to be measured on (see `Run.load_dataset`).
        """
        try:
            return self.run.load_dataset(self.resources.runtime, allow_overlap=self.allow_overlap)
        except InputError as error:
            info = self.run.info
            if needed or len(info.class_names) != info.data.classes:
                raise
            self.resources.progress.warn(f"references that learn cannot be trained: {error.message}")
            bare = Dataset(info.data.name, info.data.spec, info.class_names, {}, template=info.data.template)
            return self.run.described(bare)

    def settled(self, own: Dataset) -> Dataset:
        """The run's own data set, to be measured on; what has changed is said."""
        if self.run.has_changed(own):
            n = len(own.splits.get("test", ()))
            self.resources.progress.warn(
                f"data set {own.spec} has changed since run {self.run.name} was trained: measured on its {n} test "
                "images of now"
            )
        return replace(own, by_contents=True) if self.contents else own

    def other(self, spec: str, own: Dataset) -> Dataset:
        """Other data in the label space of the run's own: the classes that it knows decide.

        Raises:
            InputError: a class is none of the run's, or images are among those that it was trained on.
        """
        dataset = to_label_space(self.aliases.renamed(self.load(spec)), own.class_names, f"run {self.run.name}")
        if seen := self.run.seen_among(own, dataset):
            if not self.allow_overlap:
                raise InputError(seen, hint="take them out, or accept it: --allow-overlap")
            self.resources.progress.warn(seen)
        name = dataset.name if dataset.name != own.name or spec == own.spec else spec
        splits, notes = dataset.splits, dataset.notes
        return replace(own, name=name, spec=spec, splits=splits, notes=notes, by_contents=self.contents)
