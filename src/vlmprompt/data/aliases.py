"""Other names for classes: what another data set calls them, and what they are called here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmprompt.data.files import locate
from vlmprompt.data.names import label_names, labels_by_name, read_as
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

Reading = tuple[str, ...]


@dataclass(frozen=True)
class Aliases:
    """Lines `old = new` of a file: classes called `old` in another data set are `new` here.

    Names are compared as a tokenizer reads them. `used` collects the old names that were met.
    """

    path: Path | None = None
    names: dict[Reading, tuple[str, str]] = field(default_factory=dict)  # how it reads -> (old, new)
    used: set[Reading] = field(default_factory=set)

    @classmethod
    def read(cls, file: Path, root: Path | None) -> Aliases:
        """Read a file: UTF-8 text, an alias a line; empty lines and those that begin with # say nothing.

        Raises:
            InputError: it cannot be read, a line is no alias, or an old name has two new ones.
        """
        path = locate(str(file), root)
        try:
            lines = regular(path).read_bytes().decode("utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"cannot read aliases from {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"aliases in {path} are not UTF-8 text", hint="save it as UTF-8") from error
        names: dict[Reading, tuple[str, str]] = {}
        for i, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            old, sign, new = (part.strip() for part in line.partition("="))
            if not (old and sign and new):
                raise InputError(f"{path}, line {i} is no alias: {line.strip()!r}", hint="write: old name = new name")
            if names.setdefault(read_as(old), (old, new))[1] != new:
                raise InputError(f"{path}, line {i}: {old!r} has two new names", hint="keep one of these lines")
        return cls(path, names)

    def renamed(self, dataset: Dataset) -> Dataset:
        """The data set with new names for those of its classes that are among the old ones.

        Raises:
            InputError: two of its classes have one name then.
        """
        readings = [read_as(name) for name in dataset.class_names]
        met = self.names.keys() & set(readings)
        if not met:
            return dataset
        self.used.update(met)
        names = [
            self.names[reading][1] if reading in met else name
            for reading, name in zip(readings, dataset.class_names, strict=True)
        ]
        return replace(dataset, class_names=label_names(names))

    @property
    def unused(self) -> list[str]:
        """Old names that no data set had."""
        return [old for reading, (old, _) in self.names.items() if reading not in self.used]


def to_label_space(dataset: Dataset, names: tuple[str, ...], what: str) -> Dataset:
    """The data set with its labels in another label space, which holds all its classes by name.

    Args:
        what: the label space in errors, such as "run coop-photos".

    Raises:
        InputError: a class with images is not there.
    """
    labels = labels_by_name(dataset.class_names, names)
    used = {record.label for records in dataset.splits.values() for record in records}
    unknown = [dataset.class_names[label] for label in sorted(used) if labels[label] is None]
    if unknown:
        raise InputError(
            f"class {unknown[0]!r} of {dataset.spec} is none of those of {what}",
            hint="classes are matched by name; --aliases FILE gives other names, a line 'old = new' each",
        )
    splits = {
        split: tuple(replace(record, label=labels[record.label]) for record in records)  # type: ignore[arg-type]
        for split, records in dataset.splits.items()
    }
    return replace(dataset, class_names=names, splits=splits)
