"""`vlmprompt sweep`: every combination of methods, data sets, shots and seeds, into one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli import output
from vlmprompt.cli.companions import score_options, suites_for
from vlmprompt.cli.names import require, require_data, require_parts
from vlmprompt.cli.options import (
    ContentsFlag,
    DomainOption,
    ForceFlag,
    JsonFlag,
    OodOption,
    ReporterOption,
    ScoreSetOption,
    SuiteOption,
    TargetOption,
)
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.rows import emit_rows
from vlmprompt.cli.run_flags import BaseFlags, command_with, mention_defaults
from vlmprompt.cli.slurm import script_of, settings_of
from vlmprompt.cli.sweep_plan import show_plan
from vlmprompt.cli.sweep_shared import (
    ExecutorOption,
    ExecutorSetOption,
    JobsOption,
    ShardOption,
    SlurmOption,
    StatusFlag,
    SubmitFlag,
    WorkerFlag,
    elsewhere,
    give_array,
    shard_of,
    show_status,
)
from vlmprompt.plugins import host

if TYPE_CHECKING:
    from vlmprompt.config.grid import Combination
    from vlmprompt.config.models import RunConfig
    from vlmprompt.config.resolve import Resolved

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
    score_set: ScoreSetOption = None,
    contents: ContentsFlag = False,
    reporter: ReporterOption = "terminal",
    force: ForceFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs; nothing is run.")] = False,
    executor: ExecutorOption = None,
    jobs: JobsOption = None,
    executor_set: ExecutorSetOption = None,
    worker: WorkerFlag = False,
    shard: ShardOption = None,
    status: StatusFlag = False,
    slurm: SlurmOption = None,
    submit: SubmitFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train and measure every combination of methods, data sets, shots and seeds.

    And of settings: --grid lr=0.002,0.01 --grid n_ctx=4,16 makes four runs of
    each; 'vlmprompt config describe' lists them.

    The same command goes on where it stopped; started several times, on one
    machine or on several with the same folder, the processes share the work. A
    run that fails is reported and does not stop the others. The default suite is
    accuracy; with --domain, --target or --ood it is theirs.
    """
    companions = {"domains": domain or (), "targets": target or (), "ood": ood or ()}
    suites = suites_for(suite, companions)
    require(methods=flags.method or (), suites=suites, reporter=reporter)
    of_scores = score_options(score_set, suites)
    require_parts(flags.runs(), flags.runtime())
    require_data((spec for specs in companions.values() for spec in specs), flags.root)
    part = shard_of(shard, force=force)
    others = elsewhere(executor, jobs, executor_set, force=force)
    array = None if slurm is None else settings_of(slurm)
    mention_defaults(flags.first)
    from vlmprompt.evaluation.failures import incomplete
    from vlmprompt.evaluation.grid import Grid
    from vlmprompt.evaluation.grid import jobs as jobs_of
    from vlmprompt.evaluation.runner import RESULTS_FILE
    from vlmprompt.evaluation.status import grid_status
    from vlmprompt.evaluation.sweep import sweep as run_sweep

    grid = Grid(**flags.axes)
    if array is not None:
        runs = sum(map(len, jobs_of(grid, flags.resolve, out)))
        script = script_of(output.arguments(), array, runs=runs, out=out, worker=worker)
        give_array(script, out, submit=submit, dry_run=dry_run, as_json=as_json)
        return
    if status:
        show_status("sweep", [("", grid_status(grid, flags.resolve, suites, out, shard=part))], as_json=as_json)
        return
    if dry_run:
        show_plan(grid, flags.resolve, out, as_json=as_json)
        return
    progress = CliProgress()
    with others.started() as started:
        rows = run_sweep(
            grid,
            flags.resolve,
            suites,
            flags.runtime(),
            out=out,
            reference=not no_reference,
            force=force,
            companions=companions,
            score_options=of_scores,
            contents=contents,
            progress=progress,
            shard=part,
            worker=worker,
            executor=started,
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
