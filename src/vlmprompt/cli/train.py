"""`vlmprompt train`: one run of one method."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.names import require_parts
from vlmprompt.cli.options import ForceFlag, JsonFlag
from vlmprompt.cli.output import emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.run_flags import RunFlags, mention_defaults

if TYPE_CHECKING:
    from vlmprompt.config.models import RunConfig, Runtime
    from vlmprompt.config.resolve import Resolved
    from vlmprompt.training.run import TrainResult


def register(app: typer.Typer) -> None:
    """Add `train`."""
    app.command("train")(train)


@grouped
def train(
    flags: RunFlags,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default: a name in --runs-dir.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a stopped run; with --out alone, the one in that folder.")
    ] = False,
    force: ForceFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build everything, run one batch, show the plan.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a method on a data set.

    'train --out FOLDER --resume' continues the run in that folder, which knows
    its settings.

    Use --set for any setting without a flag of its own: 'vlmprompt methods show
    NAME' lists a method's options, 'vlmprompt config show' the settings of a run.
    """
    resolved, runtime = _resolved(flags, out if resume and not force else None), flags.runtime()
    require_parts([resolved.run], runtime)
    mention_defaults(resolved)
    if dry_run:
        _dry_run(resolved, runtime, as_json)
        return
    from vlmprompt.training.run import train as run_training

    result = run_training(
        resolved.run,
        runtime,
        out=out,
        resume=resume,
        force=force,
        progress=CliProgress(),
        sources=resolved.sources,
    )
    data = {"run": result.run, "metrics": result.metrics, "kept": result.kept}
    emit("train", data, as_json=as_json, table=_summary(result, resolved.run, flags.root))


def _resolved(flags: RunFlags, begun: Path | None) -> Resolved:
    """The configuration, of a run that may have begun in a folder."""
    if begun is None:
        return flags.resolve()
    from vlmprompt.training.begun import resolve_begun

    return resolve_begun(begun, flags.resolve)


def _dry_run(resolved: Resolved, runtime: Runtime, as_json: bool) -> None:
    from vlmprompt.training.dry_run import dry_run, report_lines

    report = dry_run(resolved.run, runtime, progress=CliProgress(), sources=resolved.sources)
    emit("train", {"dry_run": report}, as_json=as_json, table=report_lines(report))


def _summary(result: TrainResult, run: RunConfig, root: Path | None) -> list[str]:
    """Where the run is, its last numbers, and the command that measures it."""
    metrics = {name: value for name, value in result.metrics.items() if name != "val_accuracy"}  # of what is kept
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    kept = [f"kept  {result.kept.words}"] if result.kept is not None and result.kept.words else []
    suite = "base-to-new" if run.setting == "base-to-new" else "accuracy"
    where = [] if root is None else ["--root", str(root)]
    command = shlex.join(["vlmprompt", "evaluate", str(result.run), "--suite", suite, *where])
    return [f"run   {result.run}", *([f"last  {numbers}"] if numbers else []), *kept, f"next  {command}"]
