"""Runs suites: lists their cells, skips what is done, keeps what each gives, goes on after a failure.

Any number of processes may measure into one results file: each cell is measured by one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import claim
from vlmprompt.claims.work import shared, take
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.aliases import Aliases
from vlmprompt.data.load import load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.errors import InputError
from vlmprompt.evaluation.companions import listed
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Subject, Suite
from vlmprompt.evaluation.failures import kept_in
from vlmprompt.evaluation.helping import call, help_measure, leading, references_folder
from vlmprompt.evaluation.kept_details import keep_details, remove_details
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.measured import Measured
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.scaled import require_scaled
from vlmprompt.evaluation.subjects import REFERENCES, References, run_subject
from vlmprompt.evaluation.units import Unit, measured, units_of
from vlmprompt.methods.score_config import ScoreOptions, require_options
from vlmprompt.parallel.meeting import current, together
from vlmprompt.predict.calibrated import Calibrated
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.shown import several
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.runs import Run, load_run

RESULTS_FILE = "results.jsonl"
REFERENCES_DIR = "references"


@together()
def evaluate(
    run: Run | Path | str,
    suites: str | Sequence[str],
    runtime: Runtime | None = None,
    *,
    reference: bool | str | Sequence[str] = True,
    force: bool = False,
    ledger: Ledger | None = None,
    patient: bool = True,
    references_dir: Path | None = None,
    companions: Mapping[str, str | Sequence[str]] | None = None,
    score_options: ScoreOptions | None = None,
    data: str | None = None,
    aliases: Path | str | Mapping[str, str] | None = None,
    contents: bool = False,
    allow_overlap: bool = False,
    calibrated: bool = False,
    descriptions: Path | str | None = None,
    backbone: Backbone | str | None = None,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> list[ResultRow]:
    """Measure a run, and zero-shot and linear probe beside it; where classes are described, these too.

    Rows are kept in `results.jsonl` of the run's folder; what is there already is not measured again. Where a launcher
    has started several processes all of them call this; the first one keeps rows, the others get none.

    Args:
        run: a run, or its folder.
        suites: names of registered suites.
        reference: add rows of the reference methods (all, none, this one, or these).
        force: measure again what is done, alone in the run's folder.
        ledger: where rows are kept instead; knows what is done.
        patient: wait for cells that other processes are measuring.
        references_dir: where references are kept instead of `references` in the run's folder.
        companions: kind ("domains", "targets", "ood") -> specs of data sets, in place of those that the run's
            own data set names.
        score_options: options of plugins' scores, by name.
        data: spec of a data set to measure on in place of the run's own; its classes are matched by name.
        aliases: other names that classes have in `data` and in companions, before those of the run: a file, or a
            table old -> new.
        contents: know test images by their bytes, so that what was measured holds for copies with other times.
        allow_overlap: accept test images that the run has seen in training.
        calibrated: measure the run, not what stands beside it, at the temperature that was fitted to it.
        descriptions: file for references that read descriptions; default: the run's own, or those that are found.
        backbone: towers in memory, in place of loading those of the run; or a spec, where their weights are now.
        resources: towers to share with other calls; `backbone` is then not used.

    Returns:
        The rows of all cells of these suites, done now or before; failed ones are among them (`incomplete`).

    Raises:
        InputError: the run, its data or its towers cannot be loaded, or no temperature was fitted to its checkpoint.
        UsageError: unknown suite, reference, kind of companions, score or option of one.
        BusyError: all that is left is being measured by others, and nobody is to wait.
        Interrupted: by Ctrl-C; finished cells are kept.
    """
    group = current()
    runtime, progress = runtime or Runtime(), (progress if group.first else None) or SilentProgress()
    run = run if isinstance(run, Run) else load_run(run)
    chosen = load_suites([suites] if isinstance(suites, str) else suites)
    resources = resources or Resources(
        runtime,
        progress,
        None if isinstance(backbone, str) else backbone,
        spec=backbone if isinstance(backbone, str) else None,
    )
    temperature = _temperature(run, chosen) if calibrated else None
    resources.serve(run)
    companions = listed(companions)
    require_options(score_options or {})
    require_outliers(companions, run.config, runtime)
    given = _aliases(aliases, runtime)
    called = given.over(Aliases.of(run.config.aliases))
    measured = Measured(run, resources, called, contents, allow_overlap)
    own = measured.own(needed=data is None)
    dataset = measured.settled(own) if data is None else measured.other(data, own)
    file = None if descriptions is None else DescriptionFile.read(descriptions)
    folder = references_folder(group, references_dir or run.path / REFERENCES_DIR)
    context = partial(
        Context,
        dataset=dataset,
        bank=resources.bank(run.config),
        load=cache(partial(measured.beside, own)),
        companions=companions,
        aliases=called,
        score_options=score_options,
    )
    with folder as place:
        kept = References(place, resources, force, file)
        subjects = _subjects(run, own, kept, _references(reference), temperature)
        contexts = [context(subject) for subject in subjects]
        if not group.first:
            return help_measure(group, contexts, chosen, run.info.backbone.digest)
        beside_others = shared(run.path, progress, alone=force) if ledger is None else nullcontext()
        ledger = ledger or Ledger(ResultStore(run.path / RESULTS_FILE), fresh=force)
        runner = Runner(ledger, run.info.backbone.digest, folder=run.path, progress=progress, patient=patient)
        with beside_others:
            return runner.carry_out(contexts, chosen, given)


def require_outliers(companions: Mapping[str, Sequence[str]], config: RunConfig, runtime: Runtime) -> None:
    """Read the sets of other images, so that a mistyped name shows before anything is measured.

    Raises:
        VlmPromptError: see `load_outliers`.
    """
    for spec in companions.get("ood", ()):
        load_outliers(spec, root=runtime.root, exif=config.exif)


def _aliases(given: Path | str | Mapping[str, str] | None, runtime: Runtime) -> Aliases:
    return Aliases.of(given or {}) if given is None or isinstance(given, Mapping) else Aliases.read(given, runtime.root)


def _references(given: bool | str | Sequence[str]) -> Sequence[str]:
    if isinstance(given, bool):
        return REFERENCES if given else ()
    return (given,) if isinstance(given, str) else given


def _temperature(run: Run, suites: Sequence[Suite]) -> float:
    """Raises: UsageError, InputError: see `evaluate`."""
    require_scaled(suite.name for suite in suites)
    found = Calibrated.read(run.path, run.digest, "; without --calibrated the run is measured as it is")
    if found is None:
        raise InputError(f"no temperature was fitted to run {run.name}", hint=f"vlmprompt calibrate {run.path}")
    return found.temperature


def _subjects(
    run: Run, dataset: Dataset, references: References, names: Sequence[str], temperature: float | None
) -> list[Subject]:
    """The run, and those reference methods beside it that it is not itself."""
    measured = run_subject(run, references.resources, temperature=temperature)
    others = [name for name in names if name != run.config.method]
    return [measured, *references.beside(measured, others, dataset)]


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
        self._rows: dict[str, list[ResultRow]] = {}
        if ledger.warning:
            progress.warn(ledger.warning)
            ledger.warning = None

    def carry_out(self, contexts: Sequence[Context], suites: Sequence[Suite], given: Aliases) -> list[ResultRow]:
        """Measure, and say where numbers are kept, what was done before, and which aliases no data set has asked for.

        Raises:
            Interrupted: by Ctrl-C; finished cells are kept.
            BusyError, InputError: see `measure`.
        """
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
        listings = [units_of(context, suite, self._backbone_digest) for context in contexts for suite in suites]
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
