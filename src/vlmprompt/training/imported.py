"""A run whose state another code has trained: its published checkpoint, with data and towers to be used with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import Claim
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.folder import RunFolder, run_name
from vlmprompt.training.foreign import read_foreign
from vlmprompt.training.provenance import RunInfo
from vlmprompt.training.record import finish, make_header, make_info, recorded
from vlmprompt.training.rescue import keep
from vlmprompt.training.setup import Setup, complete, settle_device, untrained
from vlmprompt.training.start import hold, start_of
from vlmprompt.training.trainset import load_trainset


def import_run(
    config: RunConfig,
    file: Path,
    runtime: Runtime | None = None,
    *,
    out: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    sources: Mapping[str, str] | None = None,
    backbone: Backbone | None = None,
) -> Path:
    """Write a finished run around a published checkpoint, to be evaluated like any other.

    Args:
        config: as for training: method and options as the checkpoint was trained with, the data to evaluate on;
            shots and seed are what rows will say.
        file: what the method's published code wrote.
        out: the folder; default: a name made of the configuration, ending in "imported".
        force: replace what is in the folder.
        sources, backbone: see `train`.

    Returns:
        The run's folder.

    Raises:
        InputError: the file cannot be read, asks for more than tensors and plain values, or does not fit.
        CapabilityError: no published checkpoints are known for the method.
    """
    runtime, progress = runtime or Runtime(), progress or SilentProgress()
    config = complete(config)
    device = settle_device(config, runtime)
    content = read_foreign(file)
    origin = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    data = load_trainset(config, runtime, draw=False)
    folder = RunFolder(out or runtime.runs_dir / f"{run_name(config, data.dataset.name)}-imported")
    with hold(folder) as claim:
        if start_of(folder, config, data.digests, resume=False, force=force) == "done":
            if RunInfo.read(folder.path).imported == origin:
                progress.message(f"{folder.path} is already done (--force imports it again)")
                return folder.path
            raise InputError(f"{folder.path} holds another run", hint="give another folder with --out, or use --force")
        setup = untrained(config, runtime, data, device, backbone)
        setup.method.load_trainable_state(setup.method.foreign_state(content))
        _write(setup, folder, claim, origin, dict(sources or {}))
    return folder.path


def _write(setup: Setup, folder: RunFolder, claim: Claim, origin: dict[str, str], sources: dict[str, str]) -> None:
    state, rng = setup.method.eval().trainable_state(), {"method": setup.method.rng_state()}
    where = f"trained elsewhere, imported from {origin['file']} (SHA-256 {origin['sha256'][:16]})"
    info = make_info(setup, folder, sources).model_copy(update={"features": where, "imported": origin})
    folder.clear()
    with recorded(folder, info):
        keep(Checkpoint(make_header(setup), state, {}, rng), folder, claim)
        finish(folder, info, {})
