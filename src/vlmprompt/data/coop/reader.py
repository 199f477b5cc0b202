"""`coop:<name>`: from a benchmark's facts and folder to a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlmprompt.data.coop.class_folders import read_class_folders
from vlmprompt.data.coop.facts import ClassFolders, benchmark
from vlmprompt.data.coop.listing import Listing, read_listing, require_listing
from vlmprompt.data.coop.place import Place
from vlmprompt.data.coop.synsets import names_of, synsets
from vlmprompt.data.files import files_below
from vlmprompt.data.names import read_names
from vlmprompt.data.records import Dataset, Record
from vlmprompt.data.splits import Splits, shortened
from vlmprompt.errors import InputError


class CoopReader:
    """The benchmarks of benchmarks.toml, laid out and split as CoOp's code has them (Zhou et al., IJCV 2022).

    Class names are those of the split files, underscores included: whether prompts spell them is the method's
    and the protocol's affair. ImageNet's are CLIP's. Differs from CoOp: no split is ever made, ImageNet's images
    are sorted by name, and its test images do not serve for validation as well.
    """

    published = True

    def look(self, argument: str, *, root: Path | None) -> None:
        """See `data.load.DatasetReader`."""
        place = Place.below(root, benchmark(argument))
        require_listing(place)
        place.require_folder()

    def load(
        self,
        argument: str,
        *,
        root: Path | None,
        class_names_file: Path | None,
        split_seed: int,
        accept_split: bool = False,
        protocol: str = "coop",
        need_images: bool = True,
    ) -> Dataset:
        """Read a benchmark's split and look for its images; none is opened.

        Raises:
            UsageError: no such benchmark.
            InputError: a folder, the split or images are missing or not as published.
        """
        facts = benchmark(argument).under(protocol)
        place = Place.below(root, facts)
        read = _from_folders if facts.class_folders else _from_listing
        names, splits, notes = read(place, accept_split, need_images)
        if class_names_file is not None:
            names, notes["class_names"] = _given_names(class_names_file, root, len(names))
        return Dataset(
            facts.name,
            facts.spec,
            names,
            splits,
            template=facts.template,
            notes=notes,
            companions=facts.companions,
        )


Parts = tuple[tuple[str, ...], Splits, dict[str, object]]


def _from_folders(place: Place, accept: bool, need_images: bool) -> Parts:
    """Class folders are the split themselves: there is nothing to accept, and nothing without images."""
    facts = place.benchmark.class_folders
    assert facts is not None
    splits = read_class_folders(place, facts)
    counts = {split: len(records) for split, records in splits.items()}
    warnings = []
    if counts != place.benchmark.images:
        warnings.append(
            f"{place.benchmark.spec} has {_counts(counts)} images, published are {_counts(place.benchmark.images)}"
        )
    notes = {"split": {"verified": "folders"}, "classes": _class_note(facts), "warnings": warnings}
    return names_of(synsets(facts.synsets)), splits, notes


def _class_note(facts: ClassFolders) -> object:
    """Which classes of ImageNet a variant has, as labels there, so that a classifier can be cut down to them."""
    everything = synsets("imagenet")
    if facts.synsets == "imagenet":
        return "all of imagenet"
    return {"imagenet_labels": [everything.index(wnid) for wnid in synsets(facts.synsets)]}


def _from_listing(place: Place, accept: bool, need_images: bool) -> Parts:
    listing, note = read_listing(place, accept)
    doubts = []
    if note["verified"] == "accepted":
        doubts.append(f"the split of {place.benchmark.spec} is not the published one; its numbers compare with none")
        if listing.repeated:
            doubts.append(f"{len(listing.repeated)} image(s) are listed more than once: {shortened(listing.repeated)}")
    base = None
    if need_images:
        base = images_folder(place, listing)
        missing, strays = compare(place, listing, base)
        _require_all(place, listing, base, missing)
        if strays:
            doubts.append(f"{len(strays)} file(s) in {base} are in no split: {shortened(strays)}")
    return listing.names, _records(listing, base or Path()), {"split": note, "warnings": doubts}


def _records(listing: Listing, base: Path) -> Splits:
    return {
        split: tuple(Record(path, label, base / path) for path, label in rows) for split, rows in listing.splits.items()
    }


def images_folder(place: Place, listing: Listing) -> Path:
    """The folder that a listing's paths are relative to.

    Raises:
        InputError: there is none.
    """
    return place.images(dict.fromkeys(path.partition("/")[0] for path, _ in _rows(listing)))


def compare(place: Place, listing: Listing, base: Path) -> tuple[list[str], list[str]]:
    """Images of a listing that are not there, and files that are there but in no split."""
    found = set(_files(place, base))
    listed = dict.fromkeys(path for path, _ in _rows(listing))
    missing = [path for path in listed if path not in found]
    known = re.compile(place.benchmark.unlisted or r"(?!)")
    return missing, sorted(path for path in found - listed.keys() if not known.fullmatch(path))


def _files(place: Place, base: Path) -> Iterator[str]:
    """The files below an image folder; in the data set's own folder, those that lie beside the images do not count."""
    parts = [base / name for name in place.benchmark.within] or [base]
    for part in parts:
        prefix = "" if part == base else f"{part.name}/"
        for file in files_below(part) if part.is_dir() else ():
            if "/" in prefix + file or base not in place.folders:
                yield prefix + file


def _require_all(place: Place, listing: Listing, base: Path, missing: list[str]) -> None:
    if not missing:
        return
    folders = sorted({path.rpartition("/")[0] for path in missing})
    absent = [folder for folder in folders if not (base / folder).is_dir()]
    where = f"; there is no folder {shortened(absent)}" if absent else ""
    raise InputError(
        f"{len(missing)} of {sum(listing.counts.values())} images of {place.benchmark.spec} are not in {base}: "
        f"{shortened(missing)}{where}",
        hint=f"'vlmprompt data check {place.benchmark.spec}' lists them; they are had from {place.benchmark.had_from}",
    )


def _rows(listing: Listing) -> Iterator[tuple[str, int]]:
    for rows in listing.splits.values():
        yield from rows


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in counts.items())


def _given_names(file: Path, root: Path | None, classes: int) -> tuple[tuple[str, ...], object]:
    names, origin = read_names(file, root)
    if len(names) != classes:
        raise InputError(
            f"{origin['file']} has {len(names)} class names, the data set has {classes} classes",
            hint="one name a line, in label order",
        )
    return names, origin
