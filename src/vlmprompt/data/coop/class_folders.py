"""ImageNet and its variants: one folder a class, named by WordNet id or by the place among the sorted ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlmprompt.data.coop.facts import Benchmark, ClassFolders
from vlmprompt.data.coop.place import Place
from vlmprompt.data.coop.synsets import synsets
from vlmprompt.data.files import entries, images_below, is_image
from vlmprompt.data.records import Record
from vlmprompt.data.splits import Splits, shortened
from vlmprompt.errors import InputError


def read_class_folders(place: Place, facts: ClassFolders) -> Splits:
    """The records of every split, classes in label order and each class's images sorted by name.

    CoOp takes images in the order in which the file system lists them, so its few-shot samples of ImageNet differ
    from machine to machine; sorted names are the same everywhere.

    Raises:
        InputError: a folder is missing or unknown, has no images, or holds files that are none.
    """
    labels = folder_labels(facts)
    firsts = [part for part in facts.splits.values() if part != "."] or list(labels)
    base = place.images(firsts)
    return {split: _records(base, part, labels, place.benchmark) for split, part in facts.splits.items()}


def folder_labels(facts: ClassFolders) -> dict[str, int]:
    """Folder name -> label. Written "0" to "999", folders do not sort in label order."""
    wnids = synsets(facts.synsets)
    return {wnid if facts.named_by == "wnid" else str(label): label for label, wnid in enumerate(wnids)}


def _records(base: Path, part: str, labels: Mapping[str, int], benchmark: Benchmark) -> tuple[Record, ...]:
    folder = base / part
    if not folder.is_dir():
        raise InputError(
            f"{benchmark.spec} has no folder {part} in {base}",
            hint=f"expected are images in {benchmark.layout}/{part}/<class>; they are had from {benchmark.had_from}",
        )
    _check_folders(folder, labels, benchmark)
    prefix = "" if part == "." else f"{part}/"
    return tuple(
        Record(f"{prefix}{name}/{image}", label, folder / name / image)
        for name, label in labels.items()
        for image in images_below(folder / name)
    )


def _check_folders(folder: Path, labels: Mapping[str, int], benchmark: Benchmark) -> None:
    found = entries(folder)
    loose = [entry.name for entry in found if is_image(entry.name) and not entry.is_dir()]
    if loose:
        raise InputError(
            f"{len(loose)} images lie directly in {folder}: {shortened(loose)}",
            hint="sort them into class folders (for ImageNet's validation images: valprep.sh)",
        )
    names = {entry.name for entry in found if entry.is_dir()}
    missing = [name for name in labels if name not in names]
    unknown = sorted(names - labels.keys())
    if missing or unknown:
        problems = [f"{len(missing)} of {len(labels)} class folders are missing: {shortened(missing)}"] * bool(missing)
        problems += [f"no class of {benchmark.title} is called {shortened(unknown)}"] * bool(unknown)
        raise InputError(f"in {folder} {', and '.join(problems)}", hint=f"unpack it again; from {benchmark.had_from}")
