"""Runs suites: lists their cells, skips what is done, keeps what each gives, goes on after a failure.

Any number of processes may measure into one results file: each cell is measured by one of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import BusyError, claim
from vlmprompt.claims.work import shared, take
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.aliases import Aliases
from vlmprompt.data.load import load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.distributions import code_version
from vlmprompt.errors import (
    CapabilityError,
    IncompleteError,
    InputError,
    Interrupted,
    UsageError,
    VlmPromptError,
    message_of,
)
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue, MissingError, Subject, Suite
from vlmprompt.evaluation.measured import Measured
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.subjects import REFERENCES, References, run_subject
from vlmprompt.evaluation.variants import unusual
from vlmprompt.plugins import CORE, host
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.means import mean_note
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST, ResultRow, Status
from vlmprompt.results.store import EVERYTHING, ResultStore
from vlmprompt.training.provenance import RUN_FILE
from vlmprompt.training.runs import Run, load_run

RESULTS_FILE = "results.jsonl"
REFERENCES_DIR = "references"
DIGITS = 12  # of digests that only tell a few things apart
log = logging.getLogger(__name__)


def evaluate(
    run: Run | Path | str,
    suites: str | Sequence[str],
    runtime: Runtime | None = None,
    *,
    reference: bool | Sequence[str] = True,
    force: bool = False,
    ledger: Ledger | None = None,
    patient: bool = True,
    references_dir: Path | None = None,
    companions: Mapping[str, Sequence[str]] | None = None,
    data: str | None = None,
    aliases: Path | None = None,
    contents: bool = False,
    allow_overlap: bool = False,
    descriptions: Path | str | None = None,
    backbone: Backbone | None = None,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> list[ResultRow]:
    """Measure a run, and zero-shot and linear probe beside it; where classes are described, these too.

    Rows are kept in `results.jsonl` of the run's folder; what is there already is not measured again.

    Args:
        run: a run, or its folder.
        suites: names of registered suites.
        reference: add rows of the reference methods (all, none, or these).
        force: measure again what is done, alone in the run's folder.
        ledger: where rows are kept instead; knows what is done.
        patient: wait for cells that other processes are measuring.
        references_dir: where references are kept instead of `references` in the run's folder.
        companions: kind ("domains", "targets", "ood") -> specs of data sets, in place of those that the run's
            own data set names.
        data: spec of a data set to measure on in place of the run's own; its classes are matched by name.
        aliases: file of other names that classes have in `data` and in companions, see `Aliases`.
        contents: know test images by their bytes, so that what was measured holds for copies with other times.
        allow_overlap: accept test images that the run has seen in training.
        descriptions: file for references that read descriptions; default: the run's own, or those that are found.
        backbone: towers in memory, in place of loading those of the run.
        resources: towers to share with other calls; `backbone` is then not used.

    Returns:
        The rows of all cells of these suites, done now or before; failed ones are among them (`incomplete`).

    Raises:
        InputError: the run, its data or its towers cannot be loaded.
        UsageError: unknown suite.
        BusyError: all that is left is being measured by others, and nobody is to wait.
        Interrupted: by Ctrl-C; finished cells are kept.
    """
    runtime, progress = runtime or Runtime(), progress or SilentProgress()
    run = run if isinstance(run, Run) else load_run(run)
    chosen = load_suites([suites] if isinstance(suites, str) else suites)
    resources = resources or Resources(runtime, progress, backbone)
    for spec in (companions or {}).get("ood", ()):
        # So that a mistyped name shows before anything is measured.
        load_outliers(spec, root=runtime.root, exif=run.config.exif)
    called = Aliases() if aliases is None else Aliases.read(aliases, runtime.root)
    measured = Measured(run, resources, called, contents, allow_overlap)
    own = measured.own(needed=data is None)
    dataset = measured.settled(own) if data is None else measured.other(data, own)
    file = None if descriptions is None else DescriptionFile.read(descriptions)
    kept = References(references_dir or run.path / REFERENCES_DIR, resources, force, file)
    subjects = _subjects(run, own, kept, REFERENCES if reference is True else reference or ())
    beside_others = shared(run.path, progress, alone=force) if ledger is None else nullcontext()
    ledger = ledger or Ledger(ResultStore(run.path / RESULTS_FILE), fresh=force)
    runner = Runner(ledger, run.info.backbone.digest, folder=run.path, progress=progress, patient=patient)
    context = partial(
        Context,
        dataset=dataset,
        bank=resources.bank(run.config),
        load=cache(partial(measured.beside, own)),
        companions=companions,
        aliases=called,
    )
    contexts = [context(subject) for subject in subjects]
    try:
        with beside_others:
            return runner.measure(contexts, chosen)
    except (KeyboardInterrupt, Interrupted) as error:
        raise Interrupted(
            f"interrupted; what was measured is kept in {ledger.store.path}", hint="the same command goes on from there"
        ) from error
    finally:
        runner.report()
        for name in called.unused:
            progress.warn(f"alias {name!r} of {called.path} has no effect: no data set calls a class so")


def _subjects(run: Run, dataset: Dataset, references: References, names: Sequence[str]) -> list[Subject]:
    """The run, and those reference methods beside it that it is not itself."""
    measured = run_subject(run, references.resources)
    others = [name for name in names if name != run.config.method]
    return [measured, *references.beside(measured, others, dataset)]


def load_suites(names: Sequence[str]) -> list[Suite]:
    """Suites by name or `<name>:<argument>`, each once.

    Raises:
        UsageError: no such suite, or it takes no such argument.
        PluginError: its plugin failed.
    """
    return [_load_suite(name) for name in dict.fromkeys(names)]


def _load_suite(spec: str) -> Suite:
    name, _, argument = spec.partition(":")
    suite: Any = host().suites.get(name).load()
    if not argument:
        return cast(Suite, suite())
    if not hasattr(suite, "of"):
        raise UsageError(f"suite {name!r} takes no argument, but {spec!r} gives one", hint=f"write --suite {name}")
    return cast(Suite, suite.of(argument))


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


@dataclass(frozen=True)
class _Unit:
    """A cell of a suite, for one subject; equal keys have equal numbers. See `ResultRow.listing`."""

    context: Context
    suite: Suite
    cell: Cell
    key: str
    listing: str

    def __str__(self) -> str:
        subject = self.cell.subject or self.context.subject
        return f"{self.suite.name} {self.cell.name} of {subject.config.method} beside {subject.run}"


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

    def measure(self, contexts: Sequence[Context], suites: Sequence[Suite]) -> list[ResultRow]:
        """The rows of all cells of suites for some subjects; new ones are stored cell by cell.

        Raises:
            BusyError: all that is left is being measured by others, and nobody is to wait.
            InputError: the run's folder is gone.
        """
        listings = [self._units(context, suite) for context in contexts for suite in suites]
        units = [unit for listing in listings for unit in listing]
        for _ in take(units, self._settle, self._progress, patient=self._patient):
            pass
        for listing in listings:
            rows = [row for unit in listing for row in self._rows[unit.key]]
            self._ledger.show([row.model_copy(update={"listing": listing[0].listing}) for row in rows])
        return [row for unit in units for row in self._rows[unit.key]]

    def _units(self, context: Context, suite: Suite) -> list[_Unit]:
        cells = _listed(suite, context)
        listing = _digest([cell.name for cell in cells])[:DIGITS]
        return [_Unit(context, suite, cell, self._key(context, suite, cell), listing) for cell in cells]

    def _settle(self, unit: _Unit) -> None:
        """Have a unit's rows, measured by whomever."""
        ledger, metrics = self._ledger, unit.cell.metrics
        rows = ledger.rows(unit.key, metrics)
        if rows is None:
            with claim(ledger.store.path.parent, unit.key, str(unit)) as held:
                ledger.refresh()
                rows = ledger.rows(unit.key, metrics)
                if rows is None:
                    rows = self._compute(unit)
                    held.check()
                    ledger.append(rows)
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
            self._progress.message(f"{self._skipped} cells were measured before (--force measures them again)")

    def _key(self, context: Context, suite: Suite, cell: Cell) -> str:
        """SHA-256 of everything that the numbers depend on."""
        subject = cell.subject or context.subject
        content = {
            "config": subject.config.model_dump(mode="json"),
            "learned": subject.digest,
            "backbone": self._backbone_digest,
            "data": context.data_digest,
            "suite": suite.name,
            "version": suite.version,
            "code": _code(subject.config.method, suite),
            "cell": cell.name,
            "parts": cell.parts,
        }
        return _digest(content)

    def _compute(self, unit: _Unit) -> list[ResultRow]:
        """Rows of one cell, whatever happens in it; only an interruption gets through, and others at work."""
        context, suite, cell = unit.context, unit.suite, unit.cell
        setup = _setup(cell.subject or context.subject, suite, context.data_digest, self._backbone_digest)
        row = partial(_row, context, suite, cell, key=unit.key, listing=unit.listing, setup=setup)
        try:
            values = _as_promised(suite, cell, cell.compute())
            return [row(value.metric, value) for value in values]
        except (KeyboardInterrupt, Interrupted, BusyError):
            raise
        except CapabilityError as error:
            return [row(metric, status="not_applicable", note=error.message) for metric in cell.metrics]
        except MissingError as error:
            return [row(metric, status="missing", note=error.message) for metric in cell.metrics]
        except BaseException as error:  # a plugin that calls sys.exit ends its cell, and not the work of hours
            log.debug("cell %s of suite %s failed", cell.name, suite.name, exc_info=True)
            note = reason(error)
            method = unit.context.subject.config.method
            self._progress.warn(f"{suite.name} {cell.name} of {method} failed: {note}")
            return [row(metric, status="failed", note=note) for metric in cell.metrics]


def _digest(content: object) -> str:
    """SHA-256 of JSON types, in one notation."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _setup(subject: Subject, suite: Suite, data_digest: str, backbone_digest: str) -> dict[str, str]:
    """See `ResultRow.setup`."""
    config = subject.config
    code = ", ".join(f"{name} {version}" for name, version in sorted(_code(config.method, suite).items()))
    digests = {DATA_DIGEST: data_digest, BACKBONE_DIGEST: backbone_digest}
    if subject.descriptions is not None:
        digests["descriptions"] = subject.descriptions.digest
    short = {name: digest[:DIGITS] for name, digest in digests.items()}
    return unusual(config) | {DATA: config.data, "code": code} | short


def _code(method: str, suite: Suite) -> dict[str, str]:
    """Versions of the distributions that a number comes from: the core, the method's and the suite's."""
    entries = host().methods.get(method), host().suites.get(suite.name.partition(":")[0])
    return {name: code_version(name) for name in {CORE, *(entry.distribution for entry in entries)}}


def reason(error: BaseException) -> str:
    """An error in one line, with the next step where it knows one; a bug is named by its type."""
    if isinstance(error, VlmPromptError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return " ".join(f"{type(error).__name__}: {message_of(error)}".split())


def _listed(suite: Suite, context: Context) -> Sequence[Cell]:
    """The cells of a suite; if it cannot even list them, one that fails in its place."""
    try:
        return suite.cells(context)
    except (KeyboardInterrupt, Interrupted, BusyError):
        raise
    except BaseException as error:
        problem = error

        def compute() -> Sequence[MetricValue]:
            raise problem

        return [Cell(EVERYTHING, (EVERYTHING,), compute)]


def _as_promised(suite: Suite, cell: Cell, values: Sequence[MetricValue]) -> Sequence[MetricValue]:
    """Refuse metrics other than those announced: a rerun could not tell whether they are all there."""
    given = tuple(value.metric for value in values)
    if sorted(given) != sorted(cell.metrics):
        raise InputError(
            f"suite {suite.name} announced {', '.join(cell.metrics)} for cell {cell.name}, but gave {', '.join(given)}",
            hint="tell the suite's author",
        )
    return values


def _row(
    context: Context,
    suite: Suite,
    cell: Cell,
    metric: str,
    value: MetricValue | None = None,
    *,
    status: Status = "ok",
    note: str = "",
    **identifying: Any,
) -> ResultRow:
    subject = cell.subject or context.subject
    config = subject.config
    notes = [note] if value is None else [value.note, mean_note(value.of), _towers(config)]
    return ResultRow(
        run=subject.run,
        method=config.method,
        dataset=context.dataset.name,
        backbone=config.backbone,
        shots=subject.shots,
        seed=subject.seed,
        suite=suite.name,
        suite_version=suite.version,
        cell=cell.name,
        metric=metric,
        value=None if value is None else value.value,
        n=None if value is None else value.n,
        higher_is_better=True if value is None else value.higher_is_better,
        status=status,
        note="; ".join(part for part in notes if part),
        enters=cell.enters,
        of=() if value is None else value.of,
        **identifying,
    )


def _towers(config: RunConfig) -> str:
    """What a reader of any number must know of the towers."""
    return "" if config.random_weights is None else f"random tower weights (seed {config.random_weights})"
