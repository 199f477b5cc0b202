"""What is said of cells and runs that failed, and of work that was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vlmprompt.errors import IncompleteError, Interrupted, VlmPromptError, message_of
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.grid import Job
from vlmprompt.evaluation.subjects import shots_and_seed
from vlmprompt.evaluation.variants import unusual
from vlmprompt.results.rows import DATA, ResultRow
from vlmprompt.results.store import EVERYTHING


def reason(error: BaseException) -> str:
    """An error in one line, with the next step where it knows one; a bug is named by its type."""
    if isinstance(error, VlmPromptError):
        return error.told
    return " ".join(f"{type(error).__name__}: {message_of(error)}".split())


def incomplete(rows: Sequence[ResultRow]) -> IncompleteError | None:
    """The error for a command whose work is done but in part failed (exit 5); None if nothing failed."""
    failed = {(row.run, row.method, row.suite, row.cell): row for row in rows if row.status == "failed"}
    if not failed:
        return None
    first = next(iter(failed.values()))
    what = f"{first.suite} {first.cell} of {first.method}"
    return IncompleteError(
        f"{len(failed)} of {len({(r.run, r.method, r.suite, r.cell) for r in rows})} cells failed; "
        f"the first: {what}: {first.note}",
        hint="all other results are saved; the same command tries the failed ones again",
    )


@contextmanager
def kept_in(results: Path) -> Iterator[None]:
    """Say of an interruption where the numbers are that were there by then.

    Raises:
        Interrupted: by Ctrl-C, with that said.
    """
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        text = f"interrupted; what was measured is kept in {results}"
        raise Interrupted(text, hint="the same command goes on from there") from error


def failure_rows(job: Job, suites: Sequence[Suite], error: BaseException) -> list[ResultRow]:
    """A row for each suite, in place of everything that it would have measured of a run."""
    config, (shots, seed) = job.config, shots_and_seed(job.config)
    return [
        ResultRow(
            run=job.folder.name,
            method=config.method,
            dataset=job.dataset,
            backbone=config.backbone,
            shots=shots,
            seed=seed,
            suite=suite.name,
            suite_version=suite.version,
            cell=EVERYTHING,
            metric=EVERYTHING,
            value=None,
            n=None,
            status="failed",
            note=reason(error),
            setup=unusual(config) | {DATA: config.data},
            key=failure_key(job, suite),
        )
        for suite in suites
    ]


def failure_key(job: Job, suite: Suite) -> str:
    """The key of such a row."""
    return hashlib.sha256(f"{suite.name} {job.config.model_dump_json()}".encode()).hexdigest()
