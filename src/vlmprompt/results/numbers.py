"""Rows as numbers for tables: each number once, by names that tell data sets and towers apart.

All that tables do is to put numbers that say the same into one place, by `grouped`. A file of results has a hundred
thousand of them: nothing here looks at all of them once for each line or cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from vlmprompt.results.means import Identity, identity, with_means_of_what_is_shown
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST, ResultRow, Status

MISSING = "–"
DEFAULT = "default"
SETUP = "setup."  # before a key of `ResultRow.setup` where it is the name of a field
Column = tuple[str, str]  # cell (what stands before a slash), metric
Key = TypeVar("Key")


class Number(NamedTuple):
    """One row, as tables see it. A tuple: a data class that cannot be changed takes five times as long to make.

    Attributes:
        shots: as tables show it: a number, "all", or a dash where nothing is learned.
        cell: what stands before a slash in the row's.
        score: what stands behind it, of OOD cells.
        column: cell and metric, or another place in the table that is made.
        setup: of the row.
    """

    run: str
    method: str
    dataset: str
    backbone: str
    shots: str
    seed: int | None
    suite: str
    cell: str
    score: str
    metric: str
    column: Column
    value: float | None
    n: int | None
    higher_is_better: bool
    status: Status
    note: str
    of: tuple[str, ...]
    setup: Mapping[str, str]

    def field(self, name: str) -> str:
        """The text of a field by its name; settings are called `setup.` and their key."""
        if not name.startswith(SETUP):
            return str(getattr(self, name))
        key = name.removeprefix(SETUP)
        return self.setup.get(key, DEFAULT if "." in key else MISSING)

    def fields(self, names: Sequence[str]) -> tuple[str, ...]:
        """Of several."""
        return tuple(map(self.field, names))

    def at(self, column: Column) -> Number:
        """The same in another column."""
        return self._replace(column=column)


def numbers_of(rows: Iterable[ResultRow]) -> list[Number]:
    """The numbers of rows, each unit of work once although several runs may quote it, means of what is there."""
    newest = {(own, row.cell, row.metric): row for own, row in _by_one_run(rows)}
    quoted = {(row.key or id(row), row.method, row.cell, row.metric): row for row in newest.values()}
    shown = with_means_of_what_is_shown(quoted.values())
    datasets = _labels([(row.dataset, row.setup.get(DATA_DIGEST), row.setup.get(DATA)) for row in shown])
    towers = _labels([(row.backbone, row.setup.get(BACKBONE_DIGEST), None) for row in shown])
    return [_number(row, *names) for row, *names in zip(shown, datasets, towers, strict=True)]


def _by_one_run(rows: Iterable[ResultRow]) -> Iterator[tuple[Identity, ResultRow]]:
    """The rows and what they are of, those of one listing under the name of one run.

    Workers that share a sweep measure cells of a reference beside the run that each is at.
    """
    names: dict[tuple[object, ...], str] = {}
    for row in rows:
        _, *rest = identity(row)
        name = names.setdefault((row.listing, *rest), row.run) if row.listing else row.run
        yield (name, *rest), row if name == row.run else row.model_copy(update={"run": name})


def grouped(numbers: Iterable[Number], key: Callable[[Number], Key]) -> dict[Key, list[Number]]:
    """Numbers by what they have in common, in order of first appearance."""
    found: dict[Key, list[Number]] = {}
    for number in numbers:
        found.setdefault(key(number), []).append(number)
    return found


def by_fields(numbers: Iterable[Number], names: Sequence[str]) -> dict[tuple[str, ...], list[Number]]:
    """Numbers by fields that they have in common, see `Number.field`."""
    return grouped(numbers, lambda number: number.fields(names))


def _number(row: ResultRow, dataset: str, backbone: str) -> Number:
    cell, _, score = row.cell.partition("/")
    return Number(
        run=row.run,
        method=row.method,
        dataset=dataset,
        backbone=backbone,
        shots=_shots(row),
        seed=row.seed,
        suite=row.suite,
        cell=cell,
        score=score,
        metric=row.metric,
        column=(cell, row.metric),
        value=row.value,
        n=row.n,
        higher_is_better=row.higher_is_better,
        status=row.status,
        note=row.note,
        of=row.of,
        setup=row.setup,
    )


def _labels(things: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Names of things given as name, digest and spec: with the spec, or else the digest, where a name is not enough."""
    digests: dict[str, dict[str, str | None]] = {}  # name -> digest -> spec
    for name, digest, spec in things:
        if digest is not None:  # unknown of a training that failed
            digests.setdefault(name, {})[digest] = spec

    def label(name: str, digest: str | None, spec: str | None) -> str:
        known = digests.get(name, {})
        if len(known) < 2:
            return name
        specs = set(known.values())
        return f"{name} ({spec if spec and len(specs) == len(known) else digest or 'unknown'})"

    return [label(*thing) for thing in things]


def _shots(row: ResultRow) -> str:
    """Where neither shots nor seed matter, or with 0 shots, nothing was trained; shots alone missing are all images."""
    if row.shots is None:
        return MISSING if row.seed is None else "all"
    return str(row.shots) if row.shots else MISSING
