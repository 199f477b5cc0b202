"""`vlmprompt evaluate`: what trained runs are worth beside the references, and methods that need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.companions import score_options, suites_for
from vlmprompt.cli.names import named_runs, require, require_backbones, require_data
from vlmprompt.cli.options import (
    AliasesOption,
    ContentsFlag,
    DeviceOption,
    DomainOption,
    FeatureCacheOption,
    FeatureDtypeOption,
    FeatureLimitOption,
    ForceFlag,
    JsonFlag,
    OodOption,
    ReporterOption,
    RootOption,
    RunsDirOption,
    ScoreSetOption,
    SuiteOption,
    TargetOption,
    WorkersOption,
)
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.rows import emit_rows
from vlmprompt.cli.run_flags import command_with, mention_defaults
from vlmprompt.cli.untrained import MethodFlags
from vlmprompt.errors import UsageError

if TYPE_CHECKING:
    from vlmprompt.config.resolve import Resolved
    from vlmprompt.evaluation.resources import Resources
    from vlmprompt.results.rows import ResultRow


def register(app: typer.Typer) -> None:
    """Add `evaluate`."""
    app.command("evaluate")(evaluate)


@command_with(MethodFlags)
def evaluate(
    flags: MethodFlags,
    *,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run folders or names; default: the newest run.")
    ] = None,
    suite: SuiteOption = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Leave zero-shot and linear probe out.")] = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help="Measure on these data in place of the run's own; its classes, by name. With --method: the data.",
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
    score_set: ScoreSetOption = None,
    aliases: AliasesOption = None,
    contents: ContentsFlag = False,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept test images that the run has seen in training.")
    ] = False,
    calibrated: Annotated[
        bool,
        typer.Option("--calibrated", help="Measure each run at its temperature; see 'vlmprompt calibrate'."),
    ] = False,
    reporter: ReporterOption = "terminal",
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    root: RootOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    feature_cache: FeatureCacheOption = None,
    feature_limit: FeatureLimitOption = 10.0,
    feature_dtype: FeatureDtypeOption = "fp32",
) -> None:
    """Measure trained runs, beside zero-shot CLIP and a linear probe on the same images.

    Where the classes are described, zero-shot by descriptions joins them. The
    default suite is accuracy; with --domain, --target or --ood it is theirs.
    Numbers are kept in each run's results.jsonl; what is there is not measured
    again.

    A method that needs no training needs no run: 'evaluate --method zeroshot
    --data folder:photos --backbone ViT-B-16-quickgelu/openai'.
    """
    flags.settle(runs, no_reference=no_reference)
    if descriptions is not None and no_reference:
        raise UsageError("--descriptions has no effect with --no-reference", hint="leave one of them out")
    companions = {"domains": domain or (), "targets": target or (), "ood": ood or ()}
    suites = suites_for(suite, companions)
    require(methods=flags.method or (), suites=suites, reporter=reporter)
    of_scores = score_options(score_set, suites)
    files = {"descriptions": descriptions, "aliases": aliases}
    texts = {key: None if path is None else str(path) for key, path in files.items()}
    if calibrated:
        _require_calibrated(flags, suites)
    configs = flags.resolved(data=data, allow_overlap=allow_overlap or None, **texts)
    from vlmprompt.config.device import require_device
    from vlmprompt.config.models import Runtime

    require_device(device)
    if configs:
        require_backbones((resolved.run.backbone, resolved.run.random_weights) for resolved in configs)
    else:
        require_backbones([(flags.backbone, None)] if flags.backbone else ())
        runs = named_runs(runs or (), runs_dir)
    require_data([*([data] if data else ()), *(spec for specs in companions.values() for spec in specs)], root)
    from vlmprompt.evaluation.failures import incomplete
    from vlmprompt.evaluation.resources import Resources
    from vlmprompt.evaluation.runner import evaluate_each
    from vlmprompt.training.runs import load_run, newest_run

    progress = CliProgress()
    stored = {"feature_cache": feature_cache, "feature_limit": feature_limit, "feature_dtype": feature_dtype}
    runtime = Runtime(device=device, workers=workers, root=root, runs_dir=runs_dir, **stored)
    shared = Resources(runtime, progress, spec=None if configs else flags.backbone)
    beside: dict[str, Any] = {
        "force": force,
        "companions": companions,
        "contents": contents,
        "score_options": of_scores,
    }
    if configs:
        rows = _untrained(configs, suites, shared, beside)
        emit_rows("evaluate", rows, reporter=reporter, as_json=as_json, error=incomplete(rows))
        return
    if not runs:
        runs = [newest_run(runs_dir)]
        progress.message(f"newest run: {runs[0]}")
    loaded = [load_run(path) for path in runs]
    own = {"reference": not no_reference, "data": data, "allow_overlap": allow_overlap, **files}
    shares: dict[str, Any] = {**beside, **own, "calibrated": calibrated, "resources": shared, "progress": progress}
    rows = evaluate_each(loaded, suites, runtime, **shares)
    emit_rows("evaluate", rows, reporter=reporter, as_json=as_json, error=incomplete(rows))


def _require_calibrated(flags: MethodFlags, suites: Sequence[str]) -> None:
    """Refuse --calibrated where it would have no effect. Raises: UsageError."""
    from vlmprompt.evaluation.scaled import require_scaled

    if flags.method:
        raise UsageError("--calibrated has no effect with --method", hint="name a run, which a temperature belongs to")
    require_scaled(suites)


def _untrained(
    configs: Sequence[Resolved], suites: Sequence[str], resources: Resources, beside: Mapping[str, Any]
) -> list[ResultRow]:
    """The rows of methods without a run; all are known to need no training before one is measured."""
    from vlmprompt.evaluation.untrained import measure_untrained, require_training_free

    mention_defaults(configs[0])
    for resolved in configs:
        require_training_free(resolved)
    rows = [row for resolved in configs for row in measure_untrained(resolved, suites, resources, **beside)]
    resources.progress.message(f"results are kept in {resources.runtime.runs_dir}; 'vlmprompt report' shows them")
    return rows
