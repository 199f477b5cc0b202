"""Other names for classes: what another data set calls them, and what they are called here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmprompt.config.aliases import read_aliases
from vlmprompt.data.files import locate
from vlmprompt.data.names import check_several, labels_by_name, read_as, readings, spellings
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, did_you_mean

Reading = tuple[str, ...]


@dataclass(frozen=True)
class Aliases:
    """Pairs of names: classes called `old` in a data set are `new` from then on.

    Names are compared as a tokenizer reads them. All are given at once, so that two classes may change names. `used`
    collects the old names that were met.
    """

    where: str = "aliases"
    names: dict[Reading, tuple[str, str]] = field(default_factory=dict)  # how it reads -> (old, new)
    used: set[Reading] = field(default_factory=set)

    @classmethod
    def of(cls, table: Mapping[str, str], where: str = "aliases") -> Aliases:
        """Aliases from old name -> new name.

        Args:
            where: who says so, in errors.

        Raises:
            InputError: two old names that a tokenizer reads alike have two new ones, or a new one is none.
        """
        names: dict[Reading, tuple[str, str]] = {}
        for old, new in table.items():
            check_several(new, f"{where}, {old!r}")
            if names.setdefault(read_as(old), (old, new))[1] != new:
                raise InputError(f"{where}: {old!r} has two new names", hint="keep one of them")
        return cls(where, names)

    @classmethod
    def read(cls, file: Path | str, root: Path | None) -> Aliases:
        """Aliases from a file, see `read_aliases`; looked for as data are.

        Raises:
            InputError: it cannot be read, or holds something else.
        """
        path = locate(str(file), root)
        return cls.of(read_aliases(path), str(path))

    def over(self, others: Aliases) -> Aliases:
        """These, and others where these say nothing; both know then what was met."""
        return replace(self, names=others.names | self.names)

    def renamed(self, dataset: Dataset) -> Dataset:
        """The data set with new names for those of its classes that are among the old ones.

        Raises:
            InputError: two of its classes have one name then.
        """
        names = [self._new(name) for name in dataset.class_names]
        if not any(names):
            return dataset
        self._check_distinct(dataset, names)
        called = [new or old for new, old in zip(names, dataset.class_names, strict=True)]
        return replace(dataset, class_names=tuple(called))

    def own(self, dataset: Dataset) -> Dataset:
        """A run's own data set, renamed; a warning among its notes tells aliases that concern no class of it.

        An alias whose new name is that of a class is for other data.

        Raises:
            InputError: see `renamed`.
        """
        renamed = self.renamed(dataset)
        known = {reading for name in renamed.class_names for reading in readings(name)}
        idle = [
            old
            for reading, (old, new) in self.names.items()
            if reading not in self.used and known.isdisjoint(readings(new))
        ]
        if not idle:
            return renamed
        why = f"has no effect: no class of {dataset.spec} is called so"
        doubts = [f"alias {old!r} {why}; {did_you_mean(old, dataset.class_names)}" for old in idle]
        return replace(renamed, notes={**renamed.notes, "warnings": [*renamed.warnings, *doubts]})

    @property
    def unused(self) -> list[str]:
        """Old names that no data set had."""
        return [old for reading, (old, _) in self.names.items() if reading not in self.used]

    def _new(self, name: str) -> str | None:
        """The new name of a class that is called so, or that has such a name among its several."""
        for reading in (read_as(name), *readings(name)):
            if reading in self.names:
                self.used.add(reading)
                return self.names[reading][1]
        return None

    def _check_distinct(self, dataset: Dataset, names: Sequence[str | None]) -> None:
        """No new name may be that of another class; what was alike before (ImageNet's missiles) may stay so."""
        taken: dict[Reading, int] = {}
        for label, (new, old) in enumerate(zip(names, dataset.class_names, strict=True)):
            for part in spellings(new or old):
                other = taken.setdefault(read_as(part), label)
                if other != label and (new or names[other]):
                    raise InputError(
                        f"{self.where}: classes {dataset.class_names[other]!r} and {old!r} of {dataset.spec} would "
                        f"both be called {part!r}",
                        hint="leave one of the aliases out; to make one class of two, put their images together",
                    )


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
