"""Names, and places of files, that are looked up before anything heavy is imported: a slip costs no waiting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmprompt.errors import InputError, nearest
from vlmprompt.plugins import CORE, host

if TYPE_CHECKING:
    from vlmprompt.config.models import RunConfig, Runtime
    from vlmprompt.progress import Progress


def require(*, methods: Iterable[str] = (), suites: Iterable[str] = (), reporter: str | None = None) -> None:
    """Fail on a name that nobody provides.

    Raises:
        UsageError: nobody provides the name.
        PluginError: a plugin that failed would have.
    """
    for method in methods:
        host().methods.get(method)
    for suite in suites:
        _require_suite(suite)
    if reporter is not None:
        host().reporters.get(reporter)


def require_parts(runs: Iterable[RunConfig], runtime: Runtime) -> None:
    """Fail on a device, tracker or backbone that is not known, and on data and files that are not there.

    Raises:
        UsageError, InputError: see `require_device`, `make_trackers`, `require_backbone`, `require_data` and
            `require_files`.
    """
    from vlmprompt.config.device import require_device
    from vlmprompt.training.trackers.following import make_trackers

    make_trackers(runtime.tracker)
    listed = list(runs)
    require_device(runtime.device)
    require_backbones((run.backbone, run.random_weights) for run in listed)
    require_data((run.data for run in listed), runtime.root)
    require_files(listed, runtime.root)


def require_backbones(specs: Iterable[tuple[str, int | None]]) -> None:
    """Fail on backbones that are not known, each with its seed of random weights or None.

    Raises:
        UsageError, InputError: see `require_backbone`.
    """
    from vlmprompt.backbones.names import require_backbone

    for spec, seed in dict.fromkeys(specs):
        require_backbone(spec, random_weights=seed)


def require_data(specs: Iterable[str], root: Path | None) -> None:
    """Fail on data sets that nobody reads or that are not there.

    Raises:
        UsageError, InputError: see `data.load.require_there`.
    """
    from vlmprompt.data.load import require_there

    for spec in dict.fromkeys(specs):
        require_there(spec, root=root)


def require_files(runs: Iterable[RunConfig], root: Path | None) -> None:
    """Fail on files of class names and of descriptions that are not there or cannot be read.

    Raises:
        InputError: names the file.
    """
    from vlmprompt.data.names import read_names
    from vlmprompt.describe.library import DescriptionFile

    listed = list(runs)
    for names in dict.fromkeys(run.class_names for run in listed if run.class_names is not None):
        read_names(Path(names), root, distinct=False)
    for descriptions in dict.fromkeys(run.descriptions for run in listed if run.descriptions is not None):
        DescriptionFile.read(descriptions)


def named_runs(runs: Sequence[Path], runs_dir: Path) -> list[Path]:
    """The folders of the runs that are named, by path or by name; none where the newest is meant.

    Raises:
        InputError: one is no run, or none is named and there is none; names runs that are there.
    """
    from vlmprompt.training.places import finished_runs, no_run, require_run, run_at

    if not runs and not finished_runs(runs_dir):
        raise no_run(runs_dir)
    found = [run_at(run, runs_dir) for run in runs]
    for run in found:
        known = (other.name for other in finished_runs(runs_dir))
        if not run.exists() and (near := nearest(run.name, known)):
            raise InputError(f"{run} is not a run", hint=f"did you mean {' or '.join(map(repr, near))}?")
        require_run(run)
    return found


def finished_run(named: Path | None, runs_dir: Path, progress: Progress) -> Path:
    """The folder of the run that is named, or of the newest, which is said.

    Raises:
        InputError: it is no run or not finished, or there is none.
    """
    from vlmprompt.training.places import finished_runs, require_finished

    found = named_runs([] if named is None else [named], runs_dir)
    if found:
        require_finished(found[0])
        return found[0]
    newest = finished_runs(runs_dir)[0]
    progress.message(f"newest run: {newest}")
    return newest


def _require_suite(spec: str) -> None:
    """What may follow the colon is known of the core's suites alone."""
    name, _, argument = spec.partition(":")
    if host().suites.get(name).distribution != CORE or not argument:
        return
    from vlmprompt.data.ood_sets import benchmark
    from vlmprompt.evaluation.load import without_argument

    if name != "ood":
        raise without_argument(spec)
    benchmark(argument)
