"""`vlmprompt sweep`: every combination of methods, data sets, shots and seeds, into one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.companions import suites_for
from vlmprompt.cli.options import (
    ContentsFlag,
    DomainOption,
    ForceFlag,
    JsonFlag,
    OodOption,
    ReporterOption,
    SuiteOption,
    TargetOption,
)
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.rows import emit_rows, require
from vlmprompt.cli.run_flags import BaseFlags, command_with, mention_defaults

if TYPE_CHECKING:
    from vlmprompt.evaluation.grid import Grid

_AXES = "What is combined (each may be repeated)"


def _axis(*names: str, text: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_AXES, **more)


@dataclass(frozen=True, kw_only=True)
class _Axes:
    method: Annotated[list[str] | None, _axis("--method", "-m", text="Method.")] = None
    data: Annotated[list[str] | None, _axis("--data", "-d", text="Data set.")] = None
    shots: Annotated[
        list[str] | None, _axis("--shots", text="Training images per class, or all.", metavar="INT|all")
    ] = None
    seed: Annotated[list[int] | None, _axis("--seed", text="Seed of sample, initial values and order.")] = None


@dataclass(frozen=True, kw_only=True)
class SweepFlags(BaseFlags, _Axes):
    """Many runs."""

    def grid(self) -> Grid:
        """The axes; one that is not given has the value that a single run would have.

        Raises:
            UsageError: a configuration that is not allowed.
        """
        from vlmprompt.config.keys import show_value
        from vlmprompt.evaluation.grid import Grid

        first = {key: values[0] for key in ("method", "data", "shots", "seed") if (values := getattr(self, key))}
        run = self.resolve(**first).run
        return Grid(
            methods=self.method or [run.method],
            datasets=self.data or [run.data],
            shots=self.shots or [show_value("shots", run.shots)],
            seeds=self.seed or [run.seed],
        )


def register(app: typer.Typer) -> None:
    """Add `sweep`."""
    app.command("sweep")(sweep)


@command_with(SweepFlags)
def sweep(
    flags: SweepFlags,
    *,
    suite: SuiteOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for runs and results.jsonl.")] = Path("sweep"),
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Leave zero-shot and linear probe out.")] = False,
    domain: DomainOption = None,
    target: TargetOption = None,
    ood: OodOption = None,
    contents: ContentsFlag = False,
    reporter: ReporterOption = "terminal",
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train and measure every combination of methods, data sets, shots and seeds.

    The same command goes on where it stopped; started several times, the
    processes share the work. A run that fails is reported and does not stop the
    others. The default suite is accuracy; with --domain, --target or --ood it is
    theirs.
    """
    companions = {"domains": domain or (), "targets": target or (), "ood": ood or ()}
    suites = suites_for(suite, companions)
    require(methods=flags.method or (), suites=suites, reporter=reporter)
    grid = flags.grid()
    mention_defaults(flags.resolve(method=grid.methods[0], data=grid.datasets[0]))
    from vlmprompt.evaluation.failures import incomplete
    from vlmprompt.evaluation.runner import RESULTS_FILE
    from vlmprompt.evaluation.sweep import sweep as run_sweep

    progress = CliProgress()
    rows = run_sweep(
        grid,
        flags.resolve,
        suites,
        flags.runtime(),
        out=out,
        reference=not no_reference,
        force=force,
        companions=companions,
        contents=contents,
        progress=progress,
    )
    progress.message(f"results: {out / RESULTS_FILE}")
    emit_rows(
        "sweep",
        rows,
        reporter=reporter,
        as_json=as_json,
        error=incomplete(rows),
        results=out / RESULTS_FILE,
    )
