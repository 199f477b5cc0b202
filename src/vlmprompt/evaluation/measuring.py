"""Measures cells of suites: skips what is done, keeps what each gives, goes on after a failure.

Any number of processes may measure into one results file: each cell is measured by one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlmprompt.claims.claim import claim
from vlmprompt.claims.work import take
from vlmprompt.data.aliases import Aliases
from vlmprompt.errors import InputError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.expected import expect
from vlmprompt.evaluation.failures import kept_in
from vlmprompt.evaluation.helping import call, help_measure, leading
from vlmprompt.evaluation.kept_details import keep_details, remove_details
from vlmprompt.evaluation.units import Unit, measured, units_of
from vlmprompt.parallel.meeting import current
from vlmprompt.progress import Progress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.shown import several
from vlmprompt.training.places import RUN_FILE


class Runner:
    """Measures cells into a ledger, those that no other process is measuring first.

    Args:
        ledger: what it knows is not measured again.
        backbone_digest: of the towers' weights, a part of every key.
        folder: of the run that is measured, if it has one; it must stay where it is.
        patient: wait for what others are measuring.
    """

    def __init__(
        self,
        ledger: Ledger,
        backbone_digest: str,
        *,
        folder: Path | None = None,
        progress: Progress,
        patient: bool = True,
    ) -> None:
        self._ledger = ledger
        self._backbone_digest = backbone_digest
        self._folder = folder
        self._progress = progress
        self._patient = patient
        self._skipped = 0
        self._listings: list[list[Unit]] | None = None
        self._rows: dict[str, list[ResultRow]] = {}
        if ledger.warning:
            progress.warn(ledger.warning)
            ledger.warning = None

    def carry_out(self, contexts: Sequence[Context], suites: Sequence[Suite], given: Aliases) -> list[ResultRow]:
        """Measure, and say where numbers are kept, what was done before, and which aliases no data set has asked for.

        Of several processes all but the first help it, and get no rows.

        Raises:
            Interrupted: by Ctrl-C; finished cells are kept.
            BusyError, InputError: see `measure`.
        """
        group = current()
        if not group.first:
            units = [unit for listing in self.expect(contexts, suites) for unit in listing]
            help_measure(group, units, self._backbone_digest)
            return []
        try:
            with kept_in(self._ledger.store.path):
                return self.measure(contexts, suites)
        finally:
            self.report()
            for name in given.unused:
                self._progress.warn(
                    f"alias {name!r} of {given.where} has no effect: no other data set calls a class so"
                )

    def measure(self, contexts: Sequence[Context], suites: Sequence[Suite]) -> list[ResultRow]:
        """The rows of all cells of suites for some subjects; new ones are stored cell by cell.

        Raises:
            BusyError: all that is left is being measured by others, and nobody is to wait.
            InputError: the run's folder is gone.
        """
        listings = self.expect(contexts, suites)
        units = [unit for listing in listings for unit in listing]
        self._announce(units)
        with leading(current(), units):
            for _ in take(units, self._settle, self._progress, patient=self._patient):
                pass
        for listing in listings:
            rows = [row for unit in listing for row in self._rows[unit.key]]
            self._ledger.show([row.model_copy(update={"listing": listing[0].listing}) for row in rows])
        found = [row for unit in units for row in self._rows[unit.key]]
        remove_details(self._ledger, found)
        return found

    def expect(self, contexts: Sequence[Context], suites: Sequence[Suite]) -> list[list[Unit]]:
        """The units of all cells, a list for each subject and suite; of what is to be read for them it is told once."""
        if self._listings is None:
            listed = ((context, suite) for context in contexts for suite in suites)
            self._listings = [units_of(context, suite, self._backbone_digest) for context, suite in listed]
            units = [unit for listing in self._listings for unit in listing]
            expect(unit for unit in units if self._ledger.rows(unit.key, unit.cell.metrics) is None)
        return self._listings

    def _announce(self, units: Sequence[Unit]) -> None:
        """Say which cells are measured again although they were done, and why."""
        lacking = [found for unit in units if (found := self._ledger.lacking(unit.key, unit.cell.metrics))]
        if lacking:
            names = ", ".join(dict.fromkeys(name for found in lacking for name in found))
            self._progress.message(
                f"{several(len(lacking), 'cell was', 'cells were')} measured before without {names}: measured again"
            )

    def _settle(self, unit: Unit) -> None:
        """Have a unit's rows, measured by whomever."""
        ledger, metrics = self._ledger, unit.cell.metrics
        rows = ledger.rows(unit.key, metrics)
        if rows is None:
            with claim(ledger.store.path.parent, unit.key, str(unit)) as held:
                ledger.refresh()
                rows = ledger.rows(unit.key, metrics)
                if rows is None:
                    call(current(), unit)
                    outcome = measured(unit, self._backbone_digest, self._progress)
                    held.check()
                    keep_details(ledger, unit.key, outcome.details)
                    ledger.append(outcome.rows)
                    rows = outcome.rows
                    self._require_run()
        elif ledger.was_there(unit.key):
            self._skipped += 1
        self._rows[unit.key] = rows

    def _require_run(self) -> None:
        """Stop when the run has vanished; asked once its rows are kept, for which the folder is made anew."""
        if self._folder is not None and not (self._folder / RUN_FILE).exists():
            raise InputError(
                f"{self._folder} was removed, renamed or emptied while it was being measured; what was measured "
                f"since is in {self._ledger.store.path}",
                hint="put the run back; the same command goes on from there",
            )

    def report(self) -> None:
        """Say how much was done before."""
        if self._skipped:
            cells = several(self._skipped, "cell was", "cells were")
            self._progress.message(f"{cells} measured before (--force measures again)")
