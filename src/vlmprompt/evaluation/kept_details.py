"""The files of what was said of each image, as a results file is filled: written, replaced, removed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from vlmprompt.claims.claim import claim
from vlmprompt.errors import InputError
from vlmprompt.results.details import Details, details_file
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow


def keep_details(ledger: Ledger, key: str, details: Details | None) -> None:
    """Write those of a unit of work, before its rows: a finished cell has its own. Those of an earlier measurement go.

    Raises:
        InputError: the file cannot be written.
    """
    file = details_file(ledger.store.path, key)
    if details is not None and file is not None:
        details.write(file)
    elif file is not None and file.exists():
        file.unlink(missing_ok=True)


def remove_details(ledger: Ledger, rows: Sequence[ResultRow]) -> None:
    """Remove those of cells whose numbers have given way to some rows.

    What cannot be removed, or is being measured by others, stays until the next time.
    """
    for key in ledger.superseded(rows):
        file = details_file(ledger.store.path, key)
        if file is not None and file.exists():
            with suppress(InputError, OSError), claim(ledger.store.path.parent, key, f"details {file}"):
                ledger.refresh()
                if key in ledger.superseded(rows):  # nobody has measured it again before it was claimed
                    file.unlink()
