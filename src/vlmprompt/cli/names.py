"""Names, and places of files, that are looked up before anything heavy is imported: a slip costs no waiting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmprompt.plugins import CORE, host

if TYPE_CHECKING:
    from vlmprompt.config.models import RunConfig, Runtime


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


def require_runs(runs: Sequence[Path], runs_dir: Path) -> None:
    """Fail where what is to be measured is no run, or where none is named and there is none.

    Raises:
        InputError: names the folder, and runs that are there.
    """
    from vlmprompt.training.places import finished_runs, no_run, require_run

    for run in runs:
        require_run(run)
    if not runs and not finished_runs(runs_dir):
        raise no_run(runs_dir)


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
