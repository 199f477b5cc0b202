"""The run folder: its name, and what lies in it."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.atomic import parts, unwritable
from vlmprompt.claims.place import FOLDER
from vlmprompt.config.keys import show_value
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.errors import InputError
from vlmprompt.training.checkpoint import Checkpoint, file_digest
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.provenance import changed_keys
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.trackers import tensorboard
from vlmprompt.training.upgraded import with_options

# What training may write, in the order in which a new run removes an old one's: where that is cut short, a run
# without its checkpoint is left, which nobody takes for a whole one.
TRAINED = ("checkpoint.safetensors", "log.jsonl", "log.csv", "tensorboard", "descriptions.jsonl", "MODEL_CARD.md")
# Folders among them, and what of their content is a run's.
FOLDERS = {tensorboard.FOLDER: tensorboard.EVENTS}
# What evaluation adds; never removed.
MEASURED = ("results.jsonl", "details", "references", "calibration.json")
NOT_ITS_OWN = "put the run's own back, or train again with --force"


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

    @property
    def claims(self) -> Path:
        """Who is at work here; not there where nobody is."""
        return self.path / FOLDER

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def own(self) -> frozenset[str]:
        """Names of what a run has written here: nothing in a folder that holds no run.

        A run is known by its run.json, which lists them, or where that is damaged by its checkpoint.
        """
        try:
            files = RunInfo.read(self.path).files
        except InputError:
            if not Checkpoint.lies_at(self.checkpoint):
                return frozenset()
            files = ()
        return frozenset((RUN_FILE, *(files or TRAINED), *MEASURED))

    def foreign(self) -> list[str]:
        """Names of what lies here where a run would write, and was written by none."""
        own = self.own()
        there = [name for name in (RUN_FILE, *TRAINED, *MEASURED) if os.path.lexists(self.path / name)]
        return [name for name in there if name not in own or (name in TRAINED and not self._is_kind(name))]

    def clear(self) -> None:
        """Remove the files of an earlier run, but for run.json, which the next one replaces; all else stays.

        Raises:
            InputError: one cannot be removed.
        """
        own = self.own()
        for name in (name for name in TRAINED if name in own):
            if name in FOLDERS:
                self._remove((self.path / name).glob(FOLDERS[name]))
                with suppress(OSError):  # a user's files are in it, or it is a link
                    (self.path / name).rmdir()
            else:
                self._remove([self.path / name])
        self.sweep()

    def sweep(self) -> None:
        """Remove the half-written files of a process that was killed.

        Raises:
            InputError: one cannot be removed.
        """
        self._remove(parts(self.path))

    def load(self, info: RunInfo) -> Checkpoint:
        """The checkpoint, known to be that of a run; one that an older version wrote has no digests to be known by.

        Raises:
            InputError: it is missing or damaged, is another run's, or is not what a finished training ended with.
        """
        checkpoint = Checkpoint.load(self.checkpoint)
        differences = differing(info, checkpoint)
        if differences:
            raise InputError(f"{self.checkpoint} is of another run: {', '.join(differences)}", hint=NOT_ITS_OWN)
        if info.status == "finished" and info.checkpoint is None:
            warnings.warn(f"{self.path} is of an older version: no digest to check its checkpoint by", stacklevel=2)
        elif info.checkpoint not in (None, file_digest(self.checkpoint)):
            raise InputError(
                f"{self.checkpoint} is not what the training of {info.name} ended with: its SHA-256 is not that in "
                f"{RUN_FILE}, though settings and data are the same",
                hint=NOT_ITS_OWN,
            )
        return checkpoint

    def _is_kind(self, name: str) -> bool:
        """Whether what has this name is a folder, or no folder, as what a run calls so."""
        return (self.path / name).is_dir() == (name in FOLDERS)

    def _remove(self, files: Iterable[Path]) -> None:
        for file in files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(file, error) from error


def differing(info: RunInfo, checkpoint: Checkpoint) -> list[str]:
    """In what a checkpoint is another run's than its run.json says, in words."""
    header, state = checkpoint.header, checkpoint.state
    if found := changed_keys(info.config, header.config):  # of which one may have been written by a newer version
        now = (with_options(said.config, state, said.versions) for said in (info, header))
        found = changed_keys(*now)
    if info.class_names != header.class_names:
        found.append("class names")
    digests = {
        "dataset": info.data.learned or info.data.digest,
        "few-shot sample": info.data.fewshot_digest,
        "backbone": info.backbone.digest,
    }
    if info.descriptions is not None:
        digests["descriptions"] = info.descriptions.digest
    return found + [what for what, digest in digests.items() if header.digests.get(what) != digest]


def run_name(config: RunConfig, dataset: str) -> str:
    """`<method>-<data set>-<backbone>-<k>shot-seed<s>[-<setting>][-<protocol>][-no-exif][-<image size>px]`.

    It is safe as a folder's name.
    """
    shots = "allshots" if config.shots is None else f"{config.shots}shot"
    return _name(config, dataset, shots, f"seed{config.seed}")


def untrained_name(config: RunConfig, dataset: str) -> str:
    """`<method>-<data set>-<backbone>[-<setting>][-<protocol>][-no-exif]-<digest>`: where nothing is learned."""
    digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
    return f"{_name(config, dataset)}-{digest[:8]}"


def _name(config: RunConfig, dataset: str, *learned: str) -> str:
    architecture, _, weights = config.backbone.removeprefix("hf-hub:").partition("/")
    tower = f"{architecture}-{Path(weights).stem}" if weights else architecture
    if config.random_weights is not None:
        tower = f"{architecture}-random{config.random_weights}"
    unusual: list[tuple[str, str]] = [(config.setting, "few-shot"), (config.protocol, "coop")]
    special = [value for value, usual in unusual if value != usual] + ["no-exif"] * (not config.exif)
    special += [] if config.image_size is None else [f"{show_value('image_size', config.image_size)}px"]
    name = "-".join([config.method, dataset, tower, *learned, *special])
    return re.sub(r"[^\w.-]+", "_", name)


def run_folder(config: RunConfig, dataset: str, runtime: Runtime, out: Path | None) -> RunFolder:
    """Where a run goes: `out`, or its name in the folder of runs."""
    return RunFolder(out if out is not None else runtime.runs_dir / run_name(config, dataset))
