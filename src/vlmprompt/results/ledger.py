"""What is known of a results file while it is being filled, perhaps by several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, finished

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

    def refresh(self) -> None:
        """Read what was appended meanwhile.

        Raises:
            InputError: see `ResultStore.read`.
        """
        loaded = self.store.read(self._end)
        self._end = loaded.end
        _by_key(self._since, loaded.rows)

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

    def was_there(self, key: str) -> bool:
        """Whether nothing has been added to a unit since the ledger was opened."""
        return key not in self._since


def _by_key(found: _ByKey, rows: Iterable[ResultRow]) -> _ByKey:
    """Sort rows in; gives `found`."""
    for row in rows:
        found.setdefault(row.key, {})[row.metric] = row
    return found
