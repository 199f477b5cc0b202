"""`vlmprompt evaluate`: what trained runs are worth beside the references, and methods that need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.companions import SuiteFlags
from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.machine import MachineFlags
from vlmprompt.cli.names import named_runs, require, require_backbones, require_data
from vlmprompt.cli.options import AliasesOption, ForceFlag, JsonFlag, ReporterOption, RunsDirOption
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.rows import emit_rows
from vlmprompt.cli.run_flags import mention_defaults
from vlmprompt.cli.untrained import MethodFlags
from vlmprompt.errors import UsageError

if TYPE_CHECKING:
    from vlmprompt.config.resolve import Resolved
    from vlmprompt.evaluation.resources import Resources
    from vlmprompt.results.rows import ResultRow


def register(app: typer.Typer) -> None:
    """Add `evaluate`."""
    app.command("evaluate")(evaluate)


@grouped
def evaluate(
    flags: MethodFlags,
    *,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run folders or names; default: the newest run.")
    ] = None,
    measured: SuiteFlags,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Leave out zero-shot and linear probe.")] = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help="Measure on these data instead of the run's own; classes match by name. With --method: the data.",
            show_default=False,
        ),
    ] = None,
    descriptions: Annotated[
        Path | None,
        typer.Option(
            "--descriptions", help="Class descriptions for their row; default: the run's own, or found automatically."
        ),
    ] = None,
    aliases: AliasesOption = None,
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
    runs_dir: RunsDirOption = Path("runs"),
    machine: MachineFlags,
) -> None:
    """Measure trained runs, zero-shot CLIP and a linear probe on the same images.

    If there are descriptions of the classes, zero-shot by descriptions is added.
    The default suite is accuracy; with --domain, --target or --ood it is the
    suite that reads these. Numbers are stored in each run's results.jsonl and
    not measured again.

    A method that needs no training needs no run: 'evaluate --method zeroshot
    --data folder:photos --backbone ViT-B-16-quickgelu/openai'.
    """
    flags.settle(runs, no_reference=no_reference)
    if descriptions is not None and no_reference:
        raise UsageError("--descriptions has no effect with --no-reference", hint="leave one of them out")
    require(methods=flags.method or (), suites=measured.suites, reporter=reporter)
    files = {"descriptions": descriptions, "aliases": aliases}
    texts = {key: None if path is None else str(path) for key, path in files.items()}
    beside = {**measured.beside, "force": force}
    if calibrated:
        _require_calibrated(flags, measured.suites)
    configs = flags.resolved(data=data, allow_overlap=allow_overlap or None, **texts)
    machine.require_device()
    if configs:
        require_backbones((resolved.run.backbone, resolved.run.random_weights) for resolved in configs)
    else:
        require_backbones([(flags.backbone, None)] if flags.backbone else ())
        runs = named_runs(runs or (), runs_dir)
    require_data([*([data] if data else ()), *measured.specs], machine.root)
    from vlmprompt.evaluation.failures import incomplete
    from vlmprompt.evaluation.resources import Resources

    runtime = machine.runtime(runs_dir=runs_dir)
    resources = Resources(runtime, CliProgress(), spec=None if configs else flags.backbone)
    if configs:
        rows = _untrained(configs, measured.suites, resources, beside)
    else:
        own = {"reference": not no_reference, "data": data, "allow_overlap": allow_overlap, **files}
        rows = _of_runs(runs, measured.suites, resources, {**beside, **own, "calibrated": calibrated})
    emit_rows("evaluate", rows, reporter=reporter, as_json=as_json, error=incomplete(rows))


def _of_runs(
    runs: Sequence[Path] | None, suites: Sequence[str], resources: Resources, wanted: Mapping[str, Any]
) -> list[ResultRow]:
    """The rows of runs, or of the newest where none is named."""
    from vlmprompt.evaluation.runner import evaluate_each
    from vlmprompt.evaluation.wanted import Wanted
    from vlmprompt.training.runs import load_run, newest_run

    runtime, progress = resources.runtime, resources.progress
    if not runs:
        runs = [newest_run(runtime.runs_dir)]
        progress.message(f"newest run: {runs[0]}")
    loaded = [load_run(path) for path in runs]
    return evaluate_each(loaded, suites, runtime, Wanted(**wanted), resources=resources, progress=progress)


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
