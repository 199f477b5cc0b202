"""What is known of a results file while it is being filled, perhaps by several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current, finished, work_of

_ByKey = dict[str, dict[str, ResultRow]]


class Ledger:
    """Units of work that are done: measured before the ledger was opened, or tried since, by whomever.

    Attributes:
        store: the results file.
        warning: what is wrong with it, or None.

    Args:
        fresh: what was measured before counts for nothing.
    """

    def __init__(self, store: ResultStore, *, fresh: bool = False) -> None:
        self.store = store
        loaded = store.read()
        self.warning = loaded.warning
        self._end = loaded.end
        self._before = _by_key({}, () if fresh else loaded.rows)
        self._since: _ByKey = {}
        self._works: dict[tuple[object, ...], list[ResultRow]] = {}
        self._places: dict[str, set[tuple[object, ...]]] = {}  # key -> the works that it is a part of
        self._sort_in(loaded.rows)

    def refresh(self) -> None:
        """Read what was appended meanwhile.

        Raises:
            InputError: see `ResultStore.read`.
        """
        loaded = self.store.read(self._end)
        self._end = loaded.end
        _by_key(self._since, loaded.rows)
        self._sort_in(loaded.rows)

    def append(self, rows: Sequence[ResultRow]) -> None:
        """Add rows.

        Raises:
            InputError: see `ResultStore.append`.
        """
        self.store.append(rows)
        self.refresh()

    def rows(self, key: str, metrics: Iterable[str]) -> list[ResultRow] | None:
        """The rows of a unit of work, or None if it has to be done.

        One that failed before is tried again; one that has failed since is not, whoever tried.
        """
        before, since = self._before.get(key, {}), self._since.get(key, {})
        found = before | since
        if since.keys() >= set(metrics) or finished(list(found.values()), metrics):
            return list(found.values())
        return None

    def lacking(self, key: str, metrics: Iterable[str]) -> list[str]:
        """Metrics that a unit of work lacks which was done before they were there; empty of one that was never done."""
        found = self._before.get(key, {}) | self._since.get(key, {})
        if not found or not finished(list(found.values()), found):
            return []
        return [metric for metric in metrics if metric not in found]

    def superseded(self, rows: Iterable[ResultRow]) -> list[str]:
        """Keys under which nothing holds any more, of what was ever measured of the runs and suites of some rows."""
        keys = dict.fromkeys(row.key for work in {work_of(row) for row in rows} for row in self._works.get(work, ()))
        works = {work for key in keys for work in self._places[key]}  # a reference stands beside several runs
        hold = {row.key for work in works for row in current(self._works[work])}
        return [key for key in keys if key not in hold]

    def show(self, rows: Sequence[ResultRow]) -> None:
        """Make sure that a table shows rows that somebody has just asked for.

        A failure since may hide some, and one that nobody asks for any more may stand beside them; what is stored
        once more holds anew.

        Raises:
            InputError: see `ResultStore.append`.
        """
        works: dict[tuple[object, ...], list[ResultRow]] = {}
        for row in rows:
            works.setdefault(work_of(row), []).append(row)
        again = [row for work, own in works.items() for row in self._to_repeat(work, own)]
        if again:
            self.append(again)

    def _to_repeat(self, work: tuple[object, ...], rows: Sequence[ResultRow]) -> Sequence[ResultRow]:
        asked = {(row.key, row.metric) for row in rows}
        there = current(self._works.get(work, ()))
        shown = {(row.key, row.metric) for row in there}
        hidden = [row for row in rows if (row.key, row.metric) not in shown]
        obsolete = any(row.status == "failed" and (row.key, row.metric) not in asked for row in there)
        return hidden or (rows[-1:] if obsolete else [])

    def was_there(self, key: str) -> bool:
        """Whether nothing has been added to a unit since the ledger was opened."""
        return key not in self._since

    def _sort_in(self, rows: Iterable[ResultRow]) -> None:
        for row in rows:
            self._works.setdefault(work_of(row), []).append(row)
            self._places.setdefault(row.key, set()).add(work_of(row))


def _by_key(found: _ByKey, rows: Iterable[ResultRow]) -> _ByKey:
    """Sort rows in; gives `found`."""
    for row in rows:
        found.setdefault(row.key, {})[row.metric] = row
    return found
