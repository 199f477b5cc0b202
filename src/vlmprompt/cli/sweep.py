"""`vlmprompt sweep`: every combination of methods, data sets, shots and seeds, into one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli import output
from vlmprompt.cli.companions import SuiteFlags
from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.names import require, require_data, require_parts
from vlmprompt.cli.options import ForceFlag, JsonFlag, ReporterOption
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.rows import emit_rows
from vlmprompt.cli.run_flags import BaseFlags, mention_defaults
from vlmprompt.cli.slurm import script_of, settings_of
from vlmprompt.cli.sweep_plan import show_plan
from vlmprompt.cli.sweep_shared import SharingFlags, SlurmOption, SubmitFlag, give_array, show_status
from vlmprompt.plugins import host

if TYPE_CHECKING:
    from vlmprompt.config.grid import Combination
    from vlmprompt.config.models import RunConfig
    from vlmprompt.config.resolve import Resolved
    from vlmprompt.evaluation.grid import Grid
    from vlmprompt.results.rows import ResultRow

_AXES = "Combinations (each may be repeated)"


def _axis(*names: str, text: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_AXES, **more)


@dataclass(frozen=True, kw_only=True)
class _Axes:
    method: Annotated[list[str] | None, _axis("--method", "-m", text="Method.")] = None
    data: Annotated[list[str] | None, _axis("--data", "-d", text="Data set.")] = None
    shots: Annotated[
        list[str] | None, _axis("--shots", text="Training images per class, or all.", metavar="INT|all")
    ] = None
    seed: Annotated[list[int] | None, _axis("--seed", text="Seed of few-shot sample, initial values and order.")] = None
    grid: Annotated[
        list[str] | None,
        _axis("--grid", text="Values of a setting, such as lr=0.002,0.01 or n_ctx=4,16.", metavar="KEY=VALUE,VALUE"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SweepFlags(BaseFlags, _Axes):
    """Many runs."""

    def resolve(self, *, combination: Combination | None = None, **more: Any) -> Resolved:
        """See `BaseFlags.resolve`.

        Args:
            combination: one of those that --grid names.
        """
        if not combination:
            return super().resolve(**more)
        from vlmprompt.config.grid import layer_of, require_alone, require_keys
        from vlmprompt.config.keys import FIXED_FIELDS, option_fields

        method = more.get("method")
        if method is not None:  # otherwise a file or the environment names it, and `resolve` knows its settings
            options = option_fields(host().methods.get(method).load_config())
            require_keys(combination, method, {**FIXED_FIELDS, **options})
        resolved = super().resolve(layers=[layer_of(combination)], **more)
        require_alone(resolved, combination)
        return resolved

    @cached_property
    def first(self) -> Resolved:
        """The configuration of the first run; the flags alone may be none that is allowed.

        Raises:
            UsageError: it is not allowed.
        """
        from vlmprompt.config.grid import combinations

        first = {key: values[0] for key in ("method", "data", "shots", "seed") if (values := getattr(self, key))}
        return self.resolve(**first, combination=combinations(self.grid or ())[0])

    @cached_property
    def axes(self) -> dict[str, Any]:
        """The arguments of `Grid`; an axis that is not given has the value that a single run would have.

        Raises:
            UsageError: a configuration that is not allowed.
        """
        from vlmprompt.config.grid import combinations
        from vlmprompt.config.keys import show_value

        run = self.first.run
        return {
            "methods": self.method or [run.method],
            "datasets": self.data or [run.data],
            "shots": self.shots or [show_value("shots", run.shots)],
            "seeds": self.seed or [run.seed],
            "combinations": combinations(self.grid or ()),
        }

    def runs(self) -> Iterator[RunConfig]:
        """The configurations that differ in more than their seeds; nothing heavy is imported for them.

        Raises:
            UsageError: one is not allowed.
        """
        axes = self.axes
        for method, data, shots, combination in product(
            axes["methods"], axes["datasets"], axes["shots"], axes["combinations"]
        ):
            yield self.resolve(
                method=method, data=data, shots=shots, seed=axes["seeds"][0], combination=combination
            ).run


def register(app: typer.Typer) -> None:
    """Add `sweep`."""
    app.command("sweep")(sweep)


@grouped
def sweep(
    flags: SweepFlags,
    *,
    measured: SuiteFlags,
    out: Annotated[Path, typer.Option("--out", help="Folder for runs and results.jsonl.")] = Path("sweep"),
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Leave out zero-shot and linear probe.")] = False,
    reporter: ReporterOption = "terminal",
    force: ForceFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs without running them.")] = False,
    sharing: SharingFlags,
    slurm: SlurmOption = None,
    submit: SubmitFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train and measure every combination of methods, data sets, shots and seeds.

    Settings can be combined too: --grid lr=0.002,0.01 --grid n_ctx=4,16 makes
    four runs of each; 'vlmprompt config describe' lists the settings.

    Repeating the command continues where it stopped. Started several times, on
    one machine or on several with the same folder, the processes share the work.
    A run that fails is reported and does not stop the others. The default suite
    is accuracy; with --domain, --target or --ood the suite that reads these.
    """
    require(methods=flags.method or (), suites=measured.suites, reporter=reporter)
    beside = measured.beside
    require_parts(flags.runs(), flags.runtime())
    require_data(measured.specs, flags.root)
    part, others = sharing.part(force=force), sharing.elsewhere(force=force)
    array = None if slurm is None else settings_of(slurm)
    mention_defaults(flags.first)
    from vlmprompt.evaluation.grid import Grid

    grid = Grid(**flags.axes)
    if array is not None:
        script = _script(array, grid, flags, out, sharing)
        give_array(script, out, submit=submit, dry_run=dry_run, as_json=as_json)
    elif sharing.status:
        from vlmprompt.evaluation.status import grid_status

        status = grid_status(grid, flags.resolve, measured.suites, out, shard=part)
        show_status("sweep", [("", status)], as_json=as_json)
    elif dry_run:
        show_plan(grid, flags.resolve, out, as_json=as_json)
    else:
        how = {**beside, "reference": not no_reference, "force": force, "shard": part, "worker": sharing.worker}
        with others.started(flags.device, partial(_left, grid, flags, out)) as executor:
            rows = _carried_out(grid, flags, measured.suites, out, executor=executor, **how)
        _show(rows, out, reporter=reporter, as_json=as_json)


def _script(array: Mapping[str, str], grid: Grid, flags: SweepFlags, out: Path, sharing: SharingFlags) -> str:
    """What gives SLURM the runs of a grid."""
    from vlmprompt.evaluation.grid import jobs

    runs = sum(map(len, jobs(grid, flags.resolve, out)))
    return script_of(output.arguments(), array, runs=runs, out=out, worker=sharing.worker)


def _left(grid: Grid, flags: SweepFlags, out: Path) -> int:
    """How many runs are to be trained."""
    from vlmprompt.evaluation.sweep import untrained

    return untrained(grid, flags.resolve, out)


def _carried_out(grid: Grid, flags: SweepFlags, suites: Sequence[str], out: Path, **how: Any) -> list[ResultRow]:
    """The rows of a grid; for `how` see `evaluation.sweep.sweep`."""
    from vlmprompt.evaluation.runner import RESULTS_FILE
    from vlmprompt.evaluation.sweep import sweep as run_sweep

    progress = CliProgress()
    rows = run_sweep(grid, flags.resolve, suites, flags.runtime(), out=out, progress=progress, **how)
    progress.message(f"results: {out / RESULTS_FILE}")
    return rows


def _show(rows: Sequence[ResultRow], out: Path, *, reporter: str, as_json: bool) -> None:
    from vlmprompt.evaluation.failures import incomplete
    from vlmprompt.evaluation.runner import RESULTS_FILE

    error = incomplete(rows)
    emit_rows("sweep", rows, reporter=reporter, as_json=as_json, error=error, results=out / RESULTS_FILE)
