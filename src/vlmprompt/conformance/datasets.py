"""The checks of data set readers."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.reduction import ForkingPickler
from pathlib import Path, PurePosixPath

import torch

from vlmprompt.conformance.check import BrokenRuleError, Check, checks, require, skip
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import SPLITS, Dataset, Record
from vlmprompt.errors import VlmPromptError
from vlmprompt.registry import one_line

ABSENT = "no-such-data-set"


@dataclass
class DatasetCase:
    """A data set as it is asked for."""

    spec: str
    root: Path | None = None

    def load(self, spec: str | None = None, *, split_seed: int = 1) -> Dataset:
        """Read it anew."""
        return load_dataset(spec or self.spec, root=self.root, split_seed=split_seed)

    @cached_property
    def dataset(self) -> Dataset:
        """Read once."""
        return self.load()

    def records(self) -> Iterator[tuple[str, Record]]:
        """All, with their splits."""
        for split, records in self.dataset.splits.items():
            for record in records:
                yield split, record

    def samples(self) -> Iterator[Record]:
        """The first and the last of each split."""
        for records in self.dataset.splits.values():
            yield from dict.fromkeys((records[0], records[-1])) if records else ()


def reads_the_same_twice(case: DatasetCase) -> None:
    """The same data are the same data set: names, records, labels and their order."""
    first, again = case.dataset, case.load()
    require(
        first.digest == again.digest and first.template == again.template,
        "read twice, it is two different data sets",
        "sort what a file system lists; draw splits from split_seed alone",
    )


def leaves_global_randomness_alone(case: DatasetCase) -> None:
    """Reading uses nobody's global random state."""
    before = torch.random.get_rng_state()
    case.load()
    require(torch.equal(before, torch.random.get_rng_state()), "torch's global random state was used", "use split_seed")


def has_classes_and_splits(case: DatasetCase) -> None:
    """There are classes with names, and images in splits called train, val and test."""
    names, splits = case.dataset.class_names, case.dataset.splits
    require(bool(names), "there are no classes", "give class_names, in label order")
    odd = [name for name in names if not isinstance(name, str) or not name.strip()]
    require(not odd, f"{odd[:1]!r} are no class names", "give texts")
    unknown = sorted(set(splits) - set(SPLITS))
    require(not unknown, f"unknown splits {unknown}", f"call them {', '.join(SPLITS)}")
    require(any(splits.values()), "there are no images", "give records")


def labels_fit_the_classes(case: DatasetCase) -> None:
    """Labels are indices into the class names, and every class has an image."""
    n = len(case.dataset.class_names)
    wrong = [record for _, record in case.records() if type(record.label) is not int or not 0 <= record.label < n]
    if wrong:
        raise BrokenRuleError(
            f"image {wrong[0].id!r} has label {wrong[0].label!r} of {n} classes", "count from 0, in ints"
        )
    empty = sorted(set(range(n)) - {record.label for _, record in case.records()})
    require(
        not empty,
        f"class {case.dataset.class_names[empty[0]]!r} has no image" if empty else "",
        "leave classes without images out",
    )


def ids_are_stable_names(case: DatasetCase) -> None:
    """Each image of a split has an id of its own, a relative path or a key."""
    for split, records in case.dataset.splits.items():
        ids = [record.id for record in records]
        require(len(set(ids)) == len(ids), f"two images of split {split} have one id", "make ids unique")
    for _, record in case.records():
        fine = bool(record.id) and "\\" not in record.id and not PurePosixPath(record.id).is_absolute()
        require(fine, f"id {record.id!r} is no relative path", "write forward slashes, below the data set's folder")


def splits_share_no_image(case: DatasetCase) -> None:
    """No image is in two splits."""
    seen: dict[Hashable, str] = {}
    for split, record in case.records():
        key: Hashable = record.image if isinstance(record.image, Path) else record.id
        other = seen.setdefault(key, split)
        require(other == split, f"image {record.id!r} is in {other} and in {split}", "give each image to one split")


def template_has_a_place(case: DatasetCase) -> None:
    """The template has one {} for the class name."""
    template = case.dataset.template
    require(template.count("{}") == 1, f"template {template!r} has not one {{}}", "write such as 'a photo of a {}.'")


def images_can_be_read(case: DatasetCase) -> None:
    """Images are read in RGB."""
    for record in case.samples():
        image = read_image(record)
        require(image.mode == "RGB", f"image {record.id!r} is {image.mode}", "convert it: image.convert('RGB')")


def records_reach_other_processes(case: DatasetCase) -> None:
    """Records can be sent to the processes that read images, and give the same pixels there."""
    for record in case.samples():
        try:
            sent = ForkingPickler.loads(bytes(ForkingPickler.dumps(record)))
        except Exception as error:  # of whatever the image is made of
            raise BrokenRuleError(
                f"image {record.id!r} cannot be sent to another process: {one_line(error)}",
                "make the class of images a dataclass at the top level of a module, without open files",
            ) from error
        same = read_image(sent).tobytes() == read_image(record).tobytes()
        require(
            same, f"image {record.id!r} has other pixels in another process", "keep all that it needs in its fields"
        )


def drawn_splits_say_their_seed(case: DatasetCase) -> None:
    """A split that is drawn says in the notes by which seed."""
    if case.load(split_seed=2).digest == case.dataset.digest:
        skip("its split is fixed")
    split = case.dataset.notes.get("split")
    said = isinstance(split, Mapping) and "seed" in split
    require(said, "the split depends on split_seed, but notes do not say so", 'put notes["split"] = {"seed": ...}')


def refuses_what_is_not_there(case: DatasetCase) -> None:
    """Data that are not there are refused in words."""
    scheme = case.spec.partition(":")[0]
    try:
        case.load(f"{scheme}:{ABSENT}")
    except VlmPromptError:
        return
    except Exception as error:
        raise BrokenRuleError(
            f"{scheme}:{ABSENT} ends in {one_line(error)}", "raise InputError with what is missing, and a hint"
        ) from error
    skip("it looks at no argument")


DATASET_CHECKS: tuple[Check[DatasetCase], ...] = checks(
    reads_the_same_twice,
    leaves_global_randomness_alone,
    has_classes_and_splits,
    labels_fit_the_classes,
    ids_are_stable_names,
    splits_share_no_image,
    template_has_a_place,
    images_can_be_read,
    records_reach_other_processes,
    drawn_splits_say_their_seed,
    refuses_what_is_not_there,
)
