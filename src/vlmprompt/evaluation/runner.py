"""Measures trained runs, and the references beside them: by which suites, on which data, into which file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.work import shared
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.aliases import Aliases
from vlmprompt.data.load import load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.errors import InputError
from vlmprompt.evaluation.companions import listed
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.measured import Measured
from vlmprompt.evaluation.measuring import Runner
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.scaled import require_scaled
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.subjects import REFERENCES, References, run_subject
from vlmprompt.methods.score_config import ScoreOptions, require_options
from vlmprompt.parallel.meeting import current, together
from vlmprompt.parallel.place import own_place
from vlmprompt.predict.calibrated import Calibrated
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.runs import Run, load_run

RESULTS_FILE = "results.jsonl"
REFERENCES_DIR = "references"


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
    return evaluate_each(
        [run],
        suites,
        runtime or Runtime(),
        backbone=backbone,
        resources=resources,
        progress=progress or SilentProgress(),
        reference=reference,
        force=force,
        ledger=ledger,
        patient=patient,
        references_dir=references_dir,
        companions=companions,
        score_options=score_options,
        data=data,
        aliases=aliases,
        contents=contents,
        allow_overlap=allow_overlap,
        calibrated=calibrated,
        descriptions=descriptions,
    )


@together()
def evaluate_each(
    runs: Sequence[Run | Path | str],
    suites: str | Sequence[str],
    runtime: Runtime,
    *,
    backbone: Backbone | str | None = None,
    resources: Resources | None = None,
    progress: Progress,
    **settings: Any,
) -> list[ResultRow]:
    """Measure runs one after the other; images that several of them read go through the image tower once.

    Args:
        settings: see `evaluate`, as are the others.

    Raises:
        VlmPromptError: see `evaluate`; nothing is measured before all runs and their data are found sound.
    """
    progress = progress if current().first else SilentProgress()
    resources = resources or Resources(
        runtime,
        progress,
        None if isinstance(backbone, str) else backbone,
        spec=backbone if isinstance(backbone, str) else None,
    )
    chosen = load_suites([suites] if isinstance(suites, str) else suites)
    with ExitStack() as until_measured:
        until_measured.callback(resources.expect_no_more)
        prepared = [_prepared(run, chosen, runtime, resources, progress, until_measured, **settings) for run in runs]
        for one in prepared:
            one.runner.expect(one.contexts, chosen)
        return [row for one in prepared for row in one.carry_out(chosen)]


@dataclass(frozen=True)
class _Prepared:
    """A run that is about to be measured."""

    runner: Runner
    contexts: Sequence[Context]
    aliases: Aliases
    beside_others: AbstractContextManager[None]

    def carry_out(self, suites: Sequence[Suite]) -> list[ResultRow]:
        """Its rows."""
        with self.beside_others:
            return self.runner.carry_out(self.contexts, suites, self.aliases)


def _prepared(
    run: Run | Path | str,
    suites: Sequence[Suite],
    runtime: Runtime,
    resources: Resources,
    progress: Progress,
    until_measured: ExitStack,
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
) -> _Prepared:
    """What there is to measure of a run. Raises: see `evaluate`."""
    run = run if isinstance(run, Run) else load_run(run)
    temperature = _temperature(run, suites) if calibrated else None
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
    references = until_measured.enter_context(own_place(current(), references_dir or run.path / REFERENCES_DIR))
    kept = References(references, resources, force, file)
    subjects = _subjects(run, own, kept, _references(reference), temperature)
    leads = ledger is None and current().first  # the others change nothing in the folder
    beside_others = shared(run.path, progress, alone=force) if leads else nullcontext()
    ledger = ledger or Ledger(ResultStore(run.path / RESULTS_FILE), fresh=force)
    context = partial(
        Context,
        dataset=dataset,
        bank=resources.bank(run.config),
        load=cache(partial(measured.beside, own)),
        companions=companions,
        aliases=called,
        score_options=score_options,
    )
    contexts = [context(subject) for subject in subjects]
    runner = Runner(ledger, run.info.backbone.digest, folder=run.path, progress=progress, patient=patient)
    return _Prepared(runner, contexts, given, beside_others)


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
