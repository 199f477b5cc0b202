"""One training run, from a configuration to a finished run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vlmprompt.atomic import write_atomic
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import BusyError, Claim
from vlmprompt.claims.work import tidy
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.errors import InputError
from vlmprompt.parallel.group import Group
from vlmprompt.parallel.meeting import current, together
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.apart import hand_out, own_folder, require_alike
from vlmprompt.training.checkpoint import Checkpoint, Header, Position
from vlmprompt.training.device import make_accelerator
from vlmprompt.training.doubtful import warn
from vlmprompt.training.fitting import accuracy_on, fit_method, search
from vlmprompt.training.folder import RunFolder, run_folder
from vlmprompt.training.loop import fit
from vlmprompt.training.provenance import peak_memory, versions
from vlmprompt.training.record import Record, continued, finish, kept_info, make_header, make_info, recorded
from vlmprompt.training.run_info import KeptInfo, RunInfo
from vlmprompt.training.setup import Setup, build, complete, settle_device
from vlmprompt.training.sources import make_batches
from vlmprompt.training.start import hold, is_finished, require_own, start_of
from vlmprompt.training.team import Team
from vlmprompt.training.trackers.following import Trackers, make_trackers
from vlmprompt.training.trainset import TrainSet, load_trainset
from vlmprompt.training.upgraded import require_whole_optimizer, upgraded
from vlmprompt.training.validation import make_validation
from vlmprompt.training.work import Work, keep_method


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: its folder.
        metrics: `steps`, `seconds`, and as far as the method has them `loss` and `train_accuracy` (means over
            the last epoch, before each step's update), `val_accuracy` (of the state that was kept) and `images_per_s`.
        kept: which state that is; None for methods without a loop.
    """

    run: Path
    metrics: dict[str, float]
    kept: KeptInfo | None = None


@together()
def train(
    config: RunConfig,
    runtime: Runtime | None = None,
    *,
    out: Path | None = None,
    resume: bool | Literal["maybe"] = False,
    force: bool = False,
    progress: Progress | None = None,
    sources: Mapping[str, str] | None = None,
    backbone: Backbone | None = None,
    descriptions: DescriptionFile | None = None,
) -> TrainResult:
    """Train a method and write its run folder; a finished run of the same configuration is returned as it is.

    Where a launcher has started several processes all of them call this, and the first one writes.

    Args:
        out: the folder; default: a name made of the configuration, in `runtime.runs_dir`.
        resume: go on with an unfinished run, bit for bit on a CPU; "maybe": if there is one.
        force: replace what is in the folder.
        sources: dotted configuration key -> where its value came from, for run.json; nothing is said of a published
            schedule, of which nobody gave a value.
        backbone: towers in memory, in place of loading `config.backbone`.
        descriptions: read before, in place of those that `config` names or that are found for the data set.

    Raises:
        UsageError, InputError, CapabilityError, PluginError: named cause and next step.
        VanishedError: its folder was removed meanwhile; the state is in another one.
        BusyError: another process is at work in the folder, or took over while this one stood still.
        Interrupted: stopped by Ctrl-C or SIGTERM; the state was saved.
    """
    runtime = runtime or Runtime.model_validate({})
    progress = progress or SilentProgress()
    group = current()
    if not group.first:  # what a run says and tells trackers is said once
        runtime, progress = runtime.model_copy(update={"tracker": ()}), SilentProgress()
    trackers = Trackers(make_trackers(runtime.tracker), progress)
    config = complete(config)
    device = settle_device(config, runtime)
    data = load_trainset(config, runtime, descriptions)
    require_alike(group, config, data)
    place = run_folder(config, data.dataset.name, runtime, out)
    with own_folder(group, place) as folder:
        begun = _Begun(config, runtime, data, device, folder, progress, trackers, group)
        result = _begin(begun, resume, force, dict(sources or {}), backbone)
    return replace(result, run=place.path)


@dataclass(frozen=True)
class _Begun:
    """What is known of a run before anything is loaded."""

    config: RunConfig
    runtime: Runtime
    data: TrainSet
    device: torch.device
    folder: RunFolder
    progress: Progress
    trackers: Trackers
    group: Group


def _begin(
    begun: _Begun, resume: bool | Literal["maybe"], force: bool, sources: dict[str, str], backbone: Backbone | None
) -> TrainResult:
    """Train in a folder that nobody else is at work in, from where it was left."""
    config, data, folder, progress = begun.config, begun.data, begun.folder, begun.progress
    file = data.description_file
    digests = data.digests, None if file is None else file.digest
    # A finished run is looked at as it is: its folder may be read-only, or somebody else may hold it.
    finished = is_finished(folder) and not force
    if finished:
        tidy(folder.path)
    with nullcontext() if finished else hold(folder) as claim:
        hand_out(begun.group, folder)
        start = start_of(folder, config, *digests, resume=bool(resume), force=force)
        if start != "new":
            _warn_of_other_code(folder, config.method, progress)
        if start == "done":
            progress.message(f"{folder.path} is already done (--force trains it again)")
            return _result(folder, RunInfo.read(folder.path))
        if claim is None:  # in this very moment somebody has started over
            raise BusyError(f"run {folder.path}", None)
        if resume is True and start == "new":
            progress.message(f"there is nothing to resume in {folder.path}: starting from the beginning")
        setup = build(config, begun.runtime, data, begun.device, backbone)
        warn(setup, progress, sources)
        if setup.views is not None and setup.views.words is not None:
            progress.message(setup.views.words)
        run = _Run(setup, folder, make_header(setup), claim, progress, begun.trackers, begun.group)
        resumed = _resumable(folder, run.header) if start == "resume" else None
        return _result(folder, _carry_out(run, resumed, sources))


def _result(folder: RunFolder, info: RunInfo) -> TrainResult:
    return TrainResult(folder.path, info.metrics, info.kept)


@dataclass(frozen=True)
class _Run:
    """A run that is about to be trained, in a folder that this process holds."""

    setup: Setup
    folder: RunFolder
    header: Header
    claim: Claim
    progress: Progress
    trackers: Trackers
    group: Group


def _carry_out(run: _Run, resumed: Checkpoint | None, sources: dict[str, str]) -> RunInfo:
    """Train, with run.json true at every moment; gives its last content."""
    folder, file = run.folder, run.setup.data.description_file
    info = make_info(run.setup, folder, sources, run.trackers.files)
    if resumed is None:
        folder.clear()
    else:
        require_own(folder, info.files)
        folder.sweep()
        info = continued(info, RunInfo.read(folder.path))
    with run.trackers.told_of_the_end(), recorded(folder, info) as record:
        if file is not None:
            write_atomic(folder.descriptions, file.content, make_folder=False)
        outcome = _learn(run, resumed, record)
        run.claim.check()
        return finish(folder, record.info, outcome | {"peak_memory": peak_memory(run.setup.device)})


def _warn_of_other_code(folder: RunFolder, method: str, progress: Progress) -> None:
    """Say when what is there was made by other versions, editable installs included."""
    then, today = RunInfo.read(folder.path).versions, versions(method)
    changed = [f"{name} {then[name]} (now {today.get(name)})" for name in then if then[name] != today.get(name)]
    if changed:
        progress.warn(f"{folder.path} was made with {', '.join(changed)}; --force trains it again with today's")


def _learn(run: _Run, resumed: Checkpoint | None, record: Record) -> dict[str, Any]:
    """Train in the way of the method; gives what run.json records of it."""
    setup = run.setup
    if setup.plan is not None:
        return _run_loop(run, resumed, record)
    start = time.perf_counter()
    fitted: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    chosen = None
    if "closed_form" in setup.method.capabilities:
        fitted, known = fit_method(setup, run.progress)
        chosen = search(setup, run.progress)
        metrics["train_accuracy"] = accuracy_on(setup, known)
    setup.method.eval()
    _keep(run)
    seconds = time.perf_counter() - start
    numbers = {"steps": 0, "seconds": seconds, **metrics}
    return {"seconds": seconds, "fit": fitted, "search": chosen, "metrics": numbers}


def _keep(run: _Run, position: Position | None = None) -> None:
    """Write the method's state as it is outside the loop."""
    keep_method(run.setup.method, run.header, run.folder, run.claim, position)


def _run_loop(run: _Run, resumed: Checkpoint | None, record: Record) -> dict[str, Any]:
    """Train by the loop; see `_learn`."""
    setup = run.setup
    start = time.perf_counter()
    work = _work(run, resumed, record)
    before = time.perf_counter() - start
    with closing(work.batches):
        position, seconds = fit(work, resumed, run.progress)
    chosen = search(setup, run.progress)
    if chosen is not None:
        _keep(run, position)
    kept = kept_info(setup, position)
    numbers = {"loss": position.loss, "train_accuracy": position.accuracy, "steps": position.total}
    val = {} if kept.val_accuracy is None else {"val_accuracy": kept.val_accuracy}
    images = position.total * min(work.train.batch_size, len(work.image_ids))
    metrics = numbers | val | {"seconds": before + seconds, "images_per_s": images / seconds}
    return {"steps": position.total, "seconds": before + seconds, "metrics": metrics, "kept": kept, "search": chosen}


def _work(run: _Run, resumed: Checkpoint | None, record: Record) -> Work:
    """What the loop works on; a method that fits first has done so by then."""
    setup, train_config, records = run.setup, run.setup.config.train, run.setup.data.split.train
    assert setup.plan is not None
    accelerator = make_accelerator(setup.device, train_config.precision)
    team = Team.of(run.group, setup.method, min(train_config.batch_size, len(records)))
    team.announce(setup.method.told, run.progress)
    features = None
    if "fit_first" in setup.method.capabilities and resumed is None:
        fitted, features = fit_method(setup, run.progress)
        with suppress(InputError):  # the folder is gone: the state is saved beside it
            record.add(fit=fitted)
        _keep(run)  # in this order: whoever finds the state also finds what is said of it
    return Work(
        method=setup.method,
        batches=make_batches(setup, run.progress, features, team.of_batches),
        plan=setup.plan,
        train=train_config,
        accelerator=accelerator,
        image_ids=[image.id for image in records],
        weights_K=setup.weights_K,
        validation=make_validation(setup, run.progress, run.group),
        header=run.header,
        folder=run.folder,
        claim=run.claim,
        trackers=run.trackers,
        team=team,
    )


def _resumable(folder: RunFolder, header: Header) -> Checkpoint:
    """The checkpoint to go on from, of the same data and towers."""
    checkpoint = folder.load(RunInfo.read(folder.path))
    for what, digest in header.digests.items():
        if checkpoint.header.digests.get(what) != digest:
            raise InputError(
                f"cannot resume {folder.path}: its {what} is not what it was",
                hint="restore it, or start over with --force",
            )
    now = upgraded(checkpoint)
    require_whole_optimizer(checkpoint, now)
    return now
