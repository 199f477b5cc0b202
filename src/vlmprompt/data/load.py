"""From what a user writes after `--data` to a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vlmprompt.data.records import Dataset
from vlmprompt.errors import UsageError
from vlmprompt.plugins import host


class DatasetReader(Protocol):
    """What a plugin registers with `register_datasets`: a class without constructor arguments."""

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


def load_dataset(
    spec: str, *, root: Path | None = None, class_names_file: Path | str | None = None, split_seed: int = 1
) -> Dataset:
    """Load a data set by its spec, `<scheme>:<argument>`, such as "folder:photos" or "csv:list.csv".

    Args:
        spec: the scheme is the name of a registered reader; some take no argument.
        root: see `DatasetReader.load`; so for the other arguments.

    Raises:
        UsageError: unknown scheme.
        InputError: the reader's.
    """
    scheme, _, argument = spec.partition(":")
    readers = host().datasets
    if scheme not in readers.names() and Path(spec).exists():
        kind = "folder" if Path(spec).is_dir() else Path(spec).suffix.removeprefix(".")
        raise UsageError(f"data set {spec!r} does not say what it is", hint=f"write --data {kind}:{spec}")
    reader: DatasetReader = readers.get(scheme).load()()
    names_file = None if class_names_file is None else Path(class_names_file)
    return reader.load(argument, root=root, class_names_file=names_file, split_seed=split_seed)
