"""A run whose state another code has trained: its published checkpoint, with data and towers to be used with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch.nn import functional as F

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.claim import Claim
from vlmprompt.config.layers import is_shipped
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.errors import InputError
from vlmprompt.methods.foreign import ForeignState
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.dassl import newest_checkpoint
from vlmprompt.training.folder import RunFolder, run_name
from vlmprompt.training.foreign import read_foreign
from vlmprompt.training.recognised import foreign_state
from vlmprompt.training.record import finish, make_header, make_info, recorded
from vlmprompt.training.rescue import keep
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.setup import Setup, complete, settle_device, untrained
from vlmprompt.training.start import hold, start_of
from vlmprompt.training.trainset import load_trainset

FROM_SHAPES = "checkpoint"  # the source of options that its shapes decide
ALIKE = 0.99  # least cosine of an embedding with what a code saved of it, in fp16 or averaged over epochs


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
            shots and seed are what rows will say. Options that the shapes of its tensors decide need not be given.
        file: what the method's published code wrote, or Dassl's folder around it.
        out: the folder; default: a name made of the configuration, ending in "imported".
        force: replace what is in the folder.
        sources, backbone: see `train`.

    Returns:
        The run's folder.

    Raises:
        InputError: the file cannot be read, asks for more than tensors and plain values, or does not fit method,
            options, classes or towers.
        CapabilityError: no published checkpoints are known for the method.
    """
    runtime, progress = runtime or Runtime(), progress or SilentProgress()
    file = newest_checkpoint(file, progress)
    foreign = foreign_state(config.method, read_foreign(file))
    config, sources = _as_trained(config, foreign, sources or {})
    device = settle_device(config, runtime)
    origin = {"file": file.name, "sha256": _sha256(file)}
    data = load_trainset(config, runtime, draw=False)
    folder = RunFolder(out or runtime.runs_dir / f"{run_name(config, data.dataset.name)}-imported")
    with hold(folder) as claim:
        if start_of(folder, config, data.digests, resume=False, force=force) == "done":
            if RunInfo.read(folder.path).imported == origin:
                progress.message(f"{folder.path} is already done (--force imports it again)")
                return folder.path
            raise InputError(f"{folder.path} holds another run", hint="give another folder with --out, or use --force")
        _require_classes(config, foreign, len(data.class_names), progress)
        setup = untrained(config, runtime, data, device, backbone)
        _require_towers(setup.backbone, foreign)
        _load(setup, foreign)
        _write(setup, folder, claim, origin, dict(sources))
    return folder.path


def _as_trained(
    config: RunConfig, foreign: ForeignState, sources: Mapping[str, str]
) -> tuple[RunConfig, Mapping[str, str]]:
    """The complete configuration, and its sources: where nobody chose an option, the checkpoint's shapes decide."""
    chosen = {name for name in config.options if not is_shipped(sources.get(f"options.{name}", ""))}
    decided = {name: value for name, value in foreign.options.items() if name not in chosen}
    config = complete(config.model_copy(update={"options": {**config.options, **decided}}))
    return config, {**sources, **{f"options.{name}": FROM_SHAPES for name in decided}}


def _require_classes(config: RunConfig, foreign: ForeignState, n_classes: int, progress: Progress) -> None:
    """Say where a checkpoint was trained on another number of classes; contexts of their own are for these alone."""
    if foreign.classes in (None, n_classes):
        return
    said = f"the checkpoint was trained on {foreign.classes} classes, this run has {n_classes} of {config.data}"
    hint = "base classes alone: --setting base-to-new; other classes: --data, --class-names"
    if config.options.get("class_specific"):
        raise InputError(f"{said}: a class-specific context serves no other classes", hint=hint)
    progress.warn(f"{said} ({hint})")


def _require_towers(backbone: Backbone, foreign: ForeignState) -> None:
    """Fail where the checkpoint's text tower is another one: its prompts mean nothing to ours.

    Raises:
        InputError: its start-of-text token has another embedding.
    """
    ours_D, theirs_D = backbone.text.start_embedding(), foreign.start_D
    if ours_D is None or theirs_D is None:
        return
    ours_D, theirs_D = ours_D.float().cpu(), theirs_D.detach().float()
    same_width = ours_D.shape == theirs_D.shape
    if same_width and F.cosine_similarity(ours_D, theirs_D, dim=0) >= ALIKE:
        return
    width = "" if same_width else f", of width {len(theirs_D)} in place of {len(ours_D)}"
    raise InputError(
        f"the checkpoint was trained with other towers than {backbone.spec!r}: its text tower is another one{width}",
        hint="give the one that it was trained with, such as --backbone ViT-B-16-quickgelu/openai",
    )


def _load(setup: Setup, foreign: ForeignState) -> None:
    try:
        setup.method.load_trainable_state(foreign.state)
    except InputError as error:
        hint = "options and --backbone must be those that it was trained with"
        if foreign.options:
            hint += f"; its shapes decide {', '.join(foreign.options)}, which may be left out"
        raise InputError(error.message, hint=hint) from None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write(setup: Setup, folder: RunFolder, claim: Claim, origin: dict[str, str], sources: dict[str, str]) -> None:
    state, rng = setup.method.eval().trainable_state(), {"method": setup.method.rng_state()}
    where = f"trained elsewhere, imported from {origin['file']} (SHA-256 {origin['sha256'][:16]})"
    info = make_info(setup, folder, sources).model_copy(update={"features": where, "imported": origin})
    folder.clear()
    with recorded(folder, info):
        keep(Checkpoint(make_header(setup), state, {}, rng), folder, claim)
        finish(folder, info, {})
