"""The run folder: its name, what lies in it, and who may write there."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlmprompt.atomic import probe
from vlmprompt.claims.claim import FOLDER, Claim, claim
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.errors import InputError
from vlmprompt.training.provenance import RUN_FILE, RunInfo, changed_keys

Start = Literal["new", "resume", "done"]


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The last state."""
        return self.path / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        """A line a step."""
        return self.path / "log.jsonl"

    @property
    def descriptions(self) -> Path:
        """What the method read of its classes; only where it reads any."""
        return self.path / "descriptions.jsonl"

    @property
    def card(self) -> Path:
        """For people."""
        return self.path / "MODEL_CARD.md"

    def clear(self) -> None:
        """Remove the files of an earlier run; what others have put there stays."""
        self.sweep()
        for file in (self.path / RUN_FILE, self.checkpoint, self.log, self.descriptions, self.card):
            file.unlink(missing_ok=True)

    @property
    def parts(self) -> list[Path]:
        """The half-written files of a process that was killed."""
        return list(self.path.glob(".*.tmp"))

    def sweep(self) -> None:
        """Remove what is half-written."""
        for file in self.parts:
            file.unlink(missing_ok=True)


def run_name(config: RunConfig, dataset: str) -> str:
    """`<method>-<data set>-<backbone>-<k>shot-seed<s>[-<setting>][-<protocol>]`, safe as a folder's name."""
    architecture, _, weights = config.backbone.removeprefix("hf-hub:").partition("/")
    tower = f"{architecture}-{Path(weights).stem}" if weights else architecture
    if config.random_weights is not None:
        tower = f"{architecture}-random{config.random_weights}"
    shots = "allshots" if config.shots is None else f"{config.shots}shot"
    unusual: list[tuple[str, str]] = [(config.setting, "few-shot"), (config.protocol, "coop")]
    special = [value for value, usual in unusual if value != usual]
    name = "-".join([config.method, dataset, tower, shots, f"seed{config.seed}", *special])
    return re.sub(r"[^\w.-]+", "_", name)


def run_folder(config: RunConfig, dataset: str, runtime: Runtime, out: Path | None) -> RunFolder:
    """Where a run goes: `out`, or its name in the folder of runs."""
    return RunFolder(out if out is not None else runtime.runs_dir / run_name(config, dataset))


def hold(folder: RunFolder) -> AbstractContextManager[Claim]:
    """Be the only one that writes into a run folder.

    Raises:
        BusyError: somebody else is.
        InputError: the folder cannot be written to.
    """
    return claim(folder.path, "run", f"run {folder.path}")


def is_finished(folder: RunFolder) -> bool:
    """Whether a finished run is there, for whatever configuration."""
    try:
        return RunInfo.read(folder.path).status == "finished"
    except InputError:
        return False


def start_of(
    folder: RunFolder,
    config: RunConfig,
    data_digest: str,
    descriptions_digest: str | None = None,
    *,
    resume: bool,
    force: bool,
) -> Start:
    """From where a run in a folder starts; but for a finished one, the folder is to be held first (`hold`).

    Args:
        data_digest: of the data set as it is now.
        descriptions_digest: of the descriptions as they are now, where the method reads any.
        resume: go on with an unfinished run.
        force: replace what is there.

    Returns:
        "done" for a finished run of the same configuration and data, "resume" for an unfinished one that
        may go on, else "new".

    Raises:
        InputError: another run, an unfinished one, or something else is there; or it cannot be written to.
    """
    if force or not (folder.path / RUN_FILE).exists():
        _require_empty(folder, force)
        probe(folder.path)
        return "new"
    there = RunInfo.read(folder.path)
    changed = changed_keys(there.config, config)
    if changed:
        raise InputError(
            f"{folder.path} holds a run with another configuration: {', '.join(changed)}",
            hint="repeat its settings, give another folder with --out, or replace it with --force",
        )
    if there.data.digest != data_digest:
        raise InputError(
            f"data set {config.data!r} has changed since the run in {folder.path}",
            hint="restore it, give another folder with --out, or replace the run with --force",
        )
    if (there.descriptions and there.descriptions.digest) != descriptions_digest:
        raise InputError(
            f"the descriptions of the classes of {config.data!r} have changed since the run in {folder.path}",
            hint="restore them, give another folder with --out, or replace the run with --force",
        )
    if there.status == "finished":
        return "done"
    if not resume:
        raise InputError(
            f"{folder.path} holds an unfinished run ({there.status})",
            hint="go on with --resume, or start over with --force",
        )
    probe(folder.path)
    return "resume" if folder.checkpoint.exists() else "new"


def _require_empty(folder: RunFolder, force: bool) -> None:
    ours = {folder.path / FOLDER, *folder.parts}  # of a process that was killed before it wrote anything whole
    if folder.path.is_dir() and not force and not ours.issuperset(folder.path.iterdir()):
        raise InputError(
            f"{folder.path} is not empty, and holds no run", hint="choose another folder with --out, or use --force"
        )
