"""How far a grid has come: what is done, who is at work on what, what has failed, and when it may end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from vlmprompt.claims.look import Looks, looking
from vlmprompt.config.resolve import Resolved
from vlmprompt.errors import InputError
from vlmprompt.evaluation.contract import Suite
from vlmprompt.evaluation.grid import Grid, Job, jobs
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.evaluation.shard import Shard
from vlmprompt.evaluation.sweep import RUNS_DIR, chosen
from vlmprompt.evaluation.sweep_work import measuring, training
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore, current
from vlmprompt.training.run_info import RunInfo

State = Literal["done", "failed", "measuring", "training", "stale", "trained", "begun", "open"]
# In the order in which a run passes through them; "stale": its worker is dead, and the next one takes it over.
STATES: Sequence[State] = ("done", "failed", "measuring", "training", "stale", "trained", "begun", "open")


@dataclass(frozen=True)
class RunStatus:
    """One run of a grid.

    Attributes:
        who: at work on it, or the dead that were; empty: nobody.
        note: why it failed, or with which versions of packages it was trained, where others were.
        seconds: of its training; None where it is not trained.
    """

    name: str
    method: str
    state: State
    who: str = ""
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class GridStatus:
    """A whole grid.

    Attributes:
        training_left_s: what is left of training if runs take as long as those of their method took and as many work
            as do now (at least one); None where no run is trained yet, or none is left.
        workers: processes that are at work.
    """

    runs: Sequence[RunStatus]
    training_left_s: float | None
    workers: int

    @property
    def counts(self) -> dict[str, int]:
        """State -> runs, of the states that there are."""
        found = [run.state for run in self.runs]
        return {state: found.count(state) for state in STATES if state in found}


def grid_status(
    grid: Grid, resolve: Callable[..., Resolved], suites: Sequence[str], out: Path, *, shard: Shard | None = None
) -> GridStatus:
    """Look at a sweep's folder; nothing is run.

    Args:
        resolve, suites, out, shard: see `sweep`.

    Raises:
        UsageError: see `sweep`.
        InputError: the results file is damaged.
    """
    loaded = load_suites(suites)
    groups = chosen(jobs(grid, resolve, out / RUNS_DIR), loaded, shard)
    return status_of([job for group in groups for job in group], loaded, out)


def status_of(found: Sequence[Job], suites: Sequence[Suite], out: Path) -> GridStatus:
    """The same of runs that are known."""
    rows: dict[str, list[ResultRow]] = {}
    for row in current(ResultStore(out / RESULTS_FILE).read().rows):
        rows.setdefault(row.run, []).append(row)
    infos = {job.folder: _info(job) for job in found}
    usual = _usual_versions([info for info in infos.values() if info is not None])
    with looking(out) as looks:
        runs = [_status(job, infos[job.folder], rows.get(job.folder.name, []), suites, looks, usual) for job in found]
    workers = len({run.who for run in runs if run.state in ("training", "measuring")})
    return GridStatus(runs, _training_left(runs, workers), workers)


def _status(
    job: Job,
    info: RunInfo | None,
    rows: Sequence[ResultRow],
    suites: Sequence[Suite],
    looks: Looks,
    usual: Mapping[str, str],
) -> RunStatus:
    name, method = job.folder.name, job.config.method
    trained = info is not None and info.status == "finished"
    seconds = info.seconds if trained and info is not None else None
    own = [row for row in rows if row.method == method]
    failed = next((row for row in own if row.status == "failed"), None)
    held = looks.at([training(job), measuring(job)])
    state: State
    if held is not None:
        state = "stale" if held.stale else "measuring" if trained else "training"
    elif failed is not None:
        state = "failed"
    elif all(any(row.suite == suite.name for row in own) for suite in suites):
        state = "done"
    else:
        state = "trained" if trained else "open" if info is None else "begun"
    note = failed.note if state == "failed" and failed is not None else _others(info, usual)
    return RunStatus(name, method, state, "" if held is None else held.who, note, seconds)


def _info(job: Job) -> RunInfo | None:
    try:
        return RunInfo.read(job.folder)
    except InputError:
        return None


def _usual_versions(infos: Sequence[RunInfo]) -> dict[str, str]:
    """The version of each package that most runs were made with; of equals the first run's."""
    seen: dict[str, list[str]] = {}
    for info in infos:
        for package, version in info.versions.items():
            seen.setdefault(package, []).append(version)
    return {package: max(versions, key=versions.count) for package, versions in seen.items()}


def _others(info: RunInfo | None, usual: Mapping[str, str]) -> str:
    own = {} if info is None else info.versions
    odd = [
        f"{package} {version}, not {usual[package]}" for package, version in own.items() if version != usual[package]
    ]
    return f"trained with {', '.join(odd)}" if odd else ""


def _training_left(runs: Sequence[RunStatus], workers: int) -> float | None:
    known: dict[str, list[float]] = {}
    for run in runs:
        if run.seconds is not None:
            known.setdefault(run.method, []).append(run.seconds)
    left = [run for run in runs if run.state in ("open", "begun", "training", "stale") and run.seconds is None]
    if not known or not left:
        return None
    overall = fmean(second for seconds in known.values() for second in seconds)
    means = {method: fmean(seconds) for method, seconds in known.items()}
    return sum(means.get(run.method, overall) for run in left) / max(workers, 1)
