"""`vlmprompt evaluate`: what trained runs are worth, beside the references."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vlmprompt.cli.companions import suites_for
from vlmprompt.cli.options import (
    AliasesOption,
    ContentsFlag,
    DeviceOption,
    DomainOption,
    FeatureCacheOption,
    ForceFlag,
    JsonFlag,
    OodOption,
    ReporterOption,
    RootOption,
    RunsDirOption,
    SuiteOption,
    TargetOption,
    WorkersOption,
)
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.rows import emit_rows, require
from vlmprompt.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add `evaluate`."""
    app.command("evaluate")(evaluate)


def evaluate(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run folders; default: the newest run.")
    ] = None,
    suite: SuiteOption = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Leave zero-shot and linear probe out.")] = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help="Measure on these data in place of the run's own; its classes, by name.",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="Where the weights of the runs' backbone are now; they must be those of the training.",
            show_default=False,
        ),
    ] = None,
    domain: DomainOption = None,
    target: TargetOption = None,
    descriptions: Annotated[
        Path | None,
        typer.Option("--descriptions", help="Class descriptions for their row; default: the run's own, or found."),
    ] = None,
    ood: OodOption = None,
    aliases: AliasesOption = None,
    contents: ContentsFlag = False,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept test images that the run has seen in training.")
    ] = False,
    reporter: ReporterOption = "terminal",
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    root: RootOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    feature_cache: FeatureCacheOption = None,
) -> None:
    """Measure trained runs, beside zero-shot CLIP and a linear probe on the same images.

    Where the classes are described, zero-shot by descriptions joins them. The
    default suite is accuracy; with --domain, --target or --ood it is theirs.
    Numbers are kept in each run's results.jsonl; what is there is not measured
    again.
    """
    if descriptions is not None and no_reference:
        raise UsageError("--descriptions has no effect with --no-reference", hint="leave one of them out")
    companions = {"domains": domain or (), "targets": target or (), "ood": ood or ()}
    suites = suites_for(suite, companions)
    require(suites=suites, reporter=reporter)
    from vlmprompt.config.models import Runtime
    from vlmprompt.evaluation.failures import incomplete
    from vlmprompt.evaluation.resources import Resources
    from vlmprompt.evaluation.runner import evaluate as measure
    from vlmprompt.training.runs import load_run, newest_run

    progress = CliProgress()
    if not runs:
        runs = [newest_run(runs_dir)]
        progress.message(f"newest run: {runs[0]}")
    loaded = [load_run(path) for path in runs]
    runtime = Runtime(device=device, workers=workers, root=root, runs_dir=runs_dir, feature_cache=feature_cache)
    shared = Resources(runtime, progress, spec=backbone)
    measured = partial(
        measure,
        reference=not no_reference,
        force=force,
        data=data,
        aliases=aliases,
        contents=contents,
        allow_overlap=allow_overlap,
        descriptions=descriptions,
        companions=companions,
        resources=shared,
        progress=progress,
    )
    rows = [row for run in loaded for row in measured(run, suites, runtime)]
    emit_rows("evaluate", rows, reporter=reporter, as_json=as_json, error=incomplete(rows))
