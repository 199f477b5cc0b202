"""Runs suites: lists their cells, skips what is done, keeps what each gives, goes on after a failure."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.aliases import Aliases
from vlmprompt.data.load import load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.errors import CapabilityError, IncompleteError, InputError, Interrupted, UsageError, VlmPromptError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue, Subject, Suite
from vlmprompt.evaluation.measured import Measured
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.subjects import REFERENCES, References, run_subject
from vlmprompt.plugins import host
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.rows import ResultRow, Status
from vlmprompt.results.store import EVERYTHING, ResultStore, finished
from vlmprompt.training.runs import Run, load_run

RESULTS_FILE = "results.jsonl"
REFERENCES_DIR = "references"
log = logging.getLogger(__name__)


def evaluate(
    run: Run | Path | str,
    suites: str | Sequence[str],
    runtime: Runtime | None = None,
    *,
    reference: bool | Sequence[str] = True,
    force: bool = False,
    store: ResultStore | None = None,
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
        force: measure again what is done.
        store: where rows are kept instead.
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
        Interrupted: by Ctrl-C; finished cells are kept.
    """
    runtime, progress = runtime or Runtime(), progress or SilentProgress()
    run = run if isinstance(run, Run) else load_run(run)
    chosen = load_suites([suites] if isinstance(suites, str) else suites)
    resources = resources or Resources(runtime, progress, backbone)
    for spec in (companions or {}).get("ood", ()):
        load_outliers(spec, root=runtime.root)  # so that a mistyped name shows before anything is measured
    called = Aliases() if aliases is None else Aliases.read(aliases, runtime.root)
    measured = Measured(run, resources, called, contents, allow_overlap)
    own = measured.own(needed=data is None)
    dataset = measured.settled(own) if data is None else measured.other(data, own)
    file = None if descriptions is None else DescriptionFile.read(descriptions)
    kept = References(references_dir or run.path / REFERENCES_DIR, resources, force, file)
    subjects = _subjects(run, own, kept, REFERENCES if reference is True else reference or ())
    store = store or ResultStore(run.path / RESULTS_FILE)
    runner = Runner(store, run.info.backbone.digest, force=force, progress=progress)
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
        return [row for context in contexts for row in runner.measure(context, chosen)]
    except (KeyboardInterrupt, Interrupted) as error:
        raise Interrupted(
            f"interrupted; what was measured is kept in {store.path}", hint="the same command goes on from there"
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


class Runner:
    """Measures cells into a store.

    Args:
        store: rows found there are not measured again.
        backbone_digest: of the towers' weights, a part of every key.
        force: measure again what is done.
    """

    def __init__(self, store: ResultStore, backbone_digest: str, *, force: bool, progress: Progress) -> None:
        self._store = store
        self._backbone_digest = backbone_digest
        self._progress = progress
        self._skipped = 0
        loaded = store.read()
        if loaded.warning:
            progress.warn(loaded.warning)
        self._done: dict[str, list[ResultRow]] = {}
        for row in () if force else loaded.rows:
            self._done.setdefault(row.key, []).append(row)

    def measure(self, context: Context, suites: Sequence[Suite]) -> Iterator[ResultRow]:
        """The rows of all cells of suites for one subject; new ones are stored cell by cell."""
        for suite in suites:
            for cell in _listed(suite, context):
                key = self._key(context, suite, cell)
                rows = self._done.get(key, [])
                if finished(rows, cell.metrics):
                    self._skipped += 1
                else:
                    rows = self._compute(context, suite, cell, key)
                    self._store.append(rows)
                yield from rows

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
            "cell": cell.name,
            "parts": cell.parts,
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _compute(self, context: Context, suite: Suite, cell: Cell, key: str) -> list[ResultRow]:
        """Rows of one cell, whatever happens in it; only an interruption gets through."""
        row = partial(_row, context, suite, cell, key)
        try:
            values = _as_promised(suite, cell, cell.compute())
            return [row(value.metric, value) for value in values]
        except (KeyboardInterrupt, Interrupted):
            raise
        except CapabilityError as error:
            return [row(metric, status="not_applicable", note=error.message) for metric in cell.metrics]
        except Exception as error:
            log.debug("cell %s of suite %s failed", cell.name, suite.name, exc_info=True)
            note = reason(error)
            method = context.subject.config.method
            self._progress.warn(f"{suite.name} {cell.name} of {method} failed: {note}")
            return [row(metric, status="failed", note=note) for metric in cell.metrics]


def reason(error: Exception) -> str:
    """An error in one line, with the next step where it knows one; a bug is named by its type."""
    if isinstance(error, VlmPromptError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return " ".join(f"{type(error).__name__}: {error}".split())


def _listed(suite: Suite, context: Context) -> Sequence[Cell]:
    """The cells of a suite; if it cannot even list them, one that fails in its place."""
    try:
        return suite.cells(context)
    except (KeyboardInterrupt, Interrupted):
        raise
    except Exception as error:
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
    key: str,
    metric: str,
    value: MetricValue | None = None,
    *,
    status: Status = "ok",
    note: str = "",
) -> ResultRow:
    subject = cell.subject or context.subject
    config = subject.config
    notes = [note] if value is None else [value.note, _towers(config)]
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
        key=key,
    )


def _towers(config: RunConfig) -> str:
    """What a reader of any number must know of the towers."""
    return "" if config.random_weights is None else f"random tower weights (seed {config.random_weights})"
