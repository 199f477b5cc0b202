"""From what a user writes after `--data` to a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from vlmprompt.collector import paused
from vlmprompt.data.files import check_utf8, not_utf8
from vlmprompt.data.formats import OPTIONAL_SUFFIXES, lacking
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.splits import to_measure
from vlmprompt.errors import InputError, UsageError
from vlmprompt.plugins import host


class DatasetReader(Protocol):
    """What a plugin registers with `register_datasets`: a class without constructor arguments.

    With an attribute `upright = True` its images are read as a viewer shows them (see `images.decode`), unless
    `load_dataset` is told otherwise: right for people's own pictures, not for benchmarks.
    With an attribute `takes_whole = True` it takes None as `split_seed`: the data are only measured then, and all
    images are test images where there is no test split (see `data.splits.to_measure`).
    With a method `look(argument, *, root)` it refuses, at once and with the errors of `load`, data that are not there.
    """

    def load(self, argument: str, *, root: Path | None, class_names_file: Path | None, split_seed: int) -> Dataset:
        """Read a data set.

        Args:
            argument: what follows the colon of the spec; empty without one.
            root: parent folder of data sets, tried after the working directory.
            class_names_file: names that replace the data set's own, one a line in label order.
            split_seed: seed of the split where the data set has none; goes into the notes.

        Raises:
            InputError: the data are not as needed; names the file or class, and the next step.
        """


class PublishedReader(Protocol):
    """A reader of data sets whose split is published, which the attribute `published` says."""

    published: Literal[True]

    def load(
        self,
        argument: str,
        *,
        root: Path | None,
        class_names_file: Path | None,
        split_seed: int,
        accept_split: bool,
        protocol: str,
        need_images: bool,
    ) -> Dataset:
        """As `DatasetReader.load`; for the other arguments see `load_dataset`."""


@paused()
def load_dataset(
    spec: str,
    *,
    root: Path | None = None,
    class_names_file: Path | str | None = None,
    split_seed: int | None = 1,
    accept_split: bool = False,
    protocol: str = "coop",
    need_images: bool = True,
    exif: bool = True,
    allow_outside: bool = False,
) -> Dataset:
    """Load a data set by its spec, `<scheme>:<argument>`, such as "folder:photos" or "coop:dtd".

    Args:
        spec: the scheme is the name of a registered reader; some take no argument. The bare name of a benchmark
            data set is short for `coop:<name>`.
        root: see `DatasetReader.load`; so for the next two (for no seed see `load_measured`).
        accept_split: take a split that is not the published one.
        protocol: data conventions, for data sets that have several.
        need_images: look for the images; false reads the split alone, where there is a file of it.
        exif: read people's own pictures as a viewer shows them; false: as they are stored. Benchmarks are always
            read as they are stored.
        allow_outside: lists may name absolute paths anywhere.

    Raises:
        UsageError: unknown scheme, or no text.
        InputError: the reader's; or a name that cannot be written down, or images that nothing installed reads.
    """
    require_spec(spec)
    check_utf8([spec])
    reader, argument = _reader(spec)
    published = getattr(reader, "published", False)
    more: dict[str, object] = {}
    if published:
        more = {"accept_split": accept_split, "protocol": protocol, "need_images": need_images}
    if getattr(reader, "reaches_outside", False):
        more |= {"allow_outside": allow_outside}
    names_file = None if class_names_file is None else Path(class_names_file)
    try:
        dataset: Dataset = reader.load(argument, root=root, class_names_file=names_file, split_seed=split_seed, **more)
    except UnicodeEncodeError as error:  # a split by seed reads ids before anybody has looked at them
        raise not_utf8(error) from error
    if accept_split and not published:
        dataset = _doubted(dataset, f"accept_split has no effect: no split of {spec!r} has been published")
    upright = getattr(reader, "upright", False)
    if not (exif or upright):
        dataset = _doubted(dataset, f"exif has no effect: images of {spec!r} are read as they are stored")
    return _finished(dataset, upright=upright and exif)


def require_spec(given: object) -> None:
    """Refuse what is no text: a path, say, or a data set in memory.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(given, str):
        raise UsageError(
            f"data are given by a text, such as 'folder:photos', and not by a {type(given).__name__}",
            hint="of a folder, f'folder:{path}'; a reader of your own comes in a plugin",
        )


def require_there(spec: str, *, root: Path | None = None) -> None:
    """Refuse a data set that nobody reads or that is not there, before anything of it is read.

    Raises:
        UsageError, InputError: as for `load_dataset`.
    """
    check_utf8([spec])
    reader, argument = _reader(spec)
    look = getattr(reader, "look", None)
    if look is not None:
        look(argument, root=root)


def load_measured(spec: str, **reading: Any) -> Dataset:
    """A data set that nothing is trained on: its test split, or every image where it has none of its own.

    Args:
        reading: see `load_dataset`.

    Returns:
        A data set whose only split is "test", over all classes of the data set.

    Raises:
        UsageError, InputError: as for `load_dataset`.
    """
    reader, _ = _reader(spec)
    if getattr(reader, "takes_whole", False):
        reading["split_seed"] = None
    dataset = load_dataset(spec, **reading)
    if set(dataset.splits) == {"test"}:
        return dataset
    split = dataset.notes.get("split")
    drawn = isinstance(split, Mapping) and "seed" in split  # by the reader: it has none of its own
    splits, note = to_measure({"": sum(dataset.splits.values(), ())} if drawn else dataset.splits)
    return replace(dataset, splits=splits, notes={**dataset.notes, "split": note})


def _reader(spec: str) -> tuple[Any, str]:
    """The reader of a spec, and its argument."""
    scheme, _, argument = spec.partition(":")
    readers = host().datasets
    if scheme not in readers.names():
        if _is_benchmark(spec):
            scheme, argument = "coop", spec
        elif Path(spec).exists():
            raise _unsaid(spec, "--data")
    return readers.get(scheme).load()(), argument


def _finished(dataset: Dataset, *, upright: bool) -> Dataset:
    """The data set, known to be fit for use, and its records knowing how they are read."""
    records = [record for part in dataset.splits.values() for record in part]
    check_utf8([*dataset.class_names, *(record.id for record in records)])
    _require_readable(records)
    if not upright:
        return dataset
    splits = {
        split: tuple([Record(r.id, r.label, r.image, True) for r in part]) for split, part in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def _require_readable(records: Iterable[Record]) -> None:
    for record in records:
        found = lacking(record.id) if record.id.lower().endswith(OPTIONAL_SUFFIXES) else None
        if found is not None:
            format_name, command = found
            raise InputError(f"image {record.id} is {format_name}, which nothing installed here reads", hint=command)


def honours_exif(spec: str) -> bool:
    """Whether images of a data set are read as a viewer shows them, where nothing else is said."""
    scheme = spec.partition(":")[0]
    readers = host().datasets
    return scheme in readers.names() and bool(getattr(readers.get(scheme).load(), "upright", False))


def load_outliers(spec: str, *, root: Path | None = None, exif: bool = True) -> Dataset:
    """A data set as images of none of the known classes: the test split of one that has splits, else everything.

    Class names matter for comparison only. A reader with a `load_outliers(argument, *, root)` of its own is
    asked for it: `folder:` takes every image below the folder, whether sorted into classes or not. For `exif` see
    `load_dataset`.

    Returns:
        A data set whose only split is "test".

    Raises:
        UsageError, InputError: as for `load_dataset`; or there are no images.
    """
    scheme, _, argument = spec.partition(":")
    readers = host().datasets
    if scheme in readers.names():
        reader = readers.get(scheme).load()()
        own = getattr(reader, "load_outliers", None)
        if own is not None:
            return _finished(own(argument, root=root), upright=exif and getattr(reader, "upright", False))
    elif Path(spec).exists() and not _is_benchmark(spec):
        raise _unsaid(spec, "--ood")
    return load_measured(spec, root=root, exif=exif)


def short_names(specs: Iterable[str]) -> dict[str, str]:
    """A short name for each spec, different ones for different sets: "folder:my/photos" -> "photos"."""
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for spec in dict.fromkeys(specs):
        scheme, _, argument = spec.partition(":")
        name = Path(argument).stem or scheme
        seen[name] += 1
        names[spec] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return names


def _unsaid(spec: str, option: str) -> UsageError:
    """The error for a path without a scheme; `option` is where it was written."""
    kind = "folder" if Path(spec).is_dir() else Path(spec).suffix.removeprefix(".")
    return UsageError(f"data set {spec!r} does not say what it is", hint=f"write {option} {kind}:{spec}")


def _is_benchmark(name: str) -> bool:
    from vlmprompt.data.coop.facts import benchmarks

    return name in benchmarks()


def _doubted(dataset: Dataset, doubt: str) -> Dataset:
    """The data set with a warning among its notes."""
    return replace(dataset, notes={**dataset.notes, "warnings": [*dataset.warnings, doubt]})
