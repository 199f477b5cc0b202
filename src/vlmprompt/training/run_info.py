"""The content of `run.json`: everything that went into a run and how it went; no torch is needed to read it."""

from __future__ import annotations

from codecs import BOM_UTF8
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.atomic import write_atomic
from vlmprompt.data.configured import StoredConfig
from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.shown import problem
from vlmprompt.training.places import RUN_FILE

if TYPE_CHECKING:
    from vlmprompt.training.trainset import DataDigests

Status = Literal["running", "interrupted", "failed", "finished"]
# ImageNet's, with the name of every training image, has 50 MB.
MOST_BYTES = 1 << 30


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataInfo(_Model):
    """The data set and the shots; `labels` are the classes trained on, in the data set's numbering.

    `digest` is of all that the data set lists, `learned` of what the run learned from (empty in older files).
    """

    spec: str
    name: str
    digest: str
    template: str
    notes: dict[str, Any]
    classes: int
    labels: tuple[int, ...]
    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    val_source: str
    fewshot_digest: str
    learned: str = ""

    def matches(self, now: DataDigests) -> bool:
        """Whether a run on the data as they are now would learn from the same."""
        return self.learned == now.learned if self.learned else self.digest == now.listed


class BackboneInfo(_Model):
    """The towers.

    Attributes:
        file: absolute path of the file or folder of weights in training, where the spec names one.
        stand_in: the tokenizer that numbers stood in for, beside random weights.
        sides: height and width of the images that the image tower read, in pixels; None in older versions.
        is_quick: whether a layer computed QuickGELU; None in older versions.
    """

    spec: str
    name: str
    digest: str
    random_weights: int | None
    quick_gelu: bool | None
    file: str | None = None
    stand_in: str | None = None
    sides: tuple[int, int] | None = None
    is_quick: bool | None = None


class DescriptionsInfo(_Model):
    """The descriptions that the method read; the run's folder holds a copy of the file.

    Attributes:
        file: where it was found.
        digest: SHA-256 of its bytes.
        providers: who gave the descriptions.
        texts: their number, over the classes trained on.
        missing: classes trained on without any.
    """

    file: str
    digest: str
    providers: tuple[str, ...]
    texts: int
    missing: tuple[str, ...]


class KeptInfo(_Model):
    """Which state of a training loop the checkpoint holds.

    Attributes:
        state: the last, or the best by validation.
        epoch: after which it was taken, counted from 1.
        epochs: that were run, fewer than `planned` where the run was stopped early for want of progress.
        val_accuracy: of that state on the validation images; None where it was not measured.
        val_images: their number, 0 where nothing was measured.
    """

    state: Literal["last", "best"]
    epoch: int
    epochs: int
    planned: int
    val_accuracy: float | None
    val_images: int

    @property
    def words(self) -> str:
        """For people; empty where nothing was measured."""
        if self.val_accuracy is None:
            return ""
        early = f", stopped early of {self.planned} planned" if self.epochs < self.planned else ""
        which = "the best" if self.state == "best" else "the last"
        measured = f"{self.val_accuracy:.2%} of {self.val_images} validation images right"
        return f"{which} state, after epoch {self.epoch} of {self.epochs}{early}: {measured}"


class SearchInfo(_Model):
    """What the method chose on validation images, once it was trained.

    Attributes:
        names: what was chosen.
        val_images: on how many.
        found: the chosen values by name, and what else the method recorded, such as what was tried.
    """

    names: tuple[str, ...]
    val_images: int
    found: dict[str, Any]

    @property
    def words(self) -> str:
        """For people."""
        chosen = ", ".join(f"{name} = {self.found[name]}" for name in self.names)
        return f"{chosen}, on {self.val_images} validation images"


class RunInfo(_Model):
    """The content of run.json.

    Attributes:
        sources: dotted configuration key -> where its value came from.
        versions: of Python, the libraries that numbers depend on, and the method's plugin.
        features: how the images reached the method (fresh views, or computed once).
        steps: optimiser steps taken; 0 for methods without a loop.
        seconds: of training, resumed parts included.
        peak_memory: bytes, of main memory ("rss") and of the device ("cuda").
        metrics: numbers of the training itself (evaluation is kept elsewhere).
        kept: which state the checkpoint holds; None before the end, of methods without a loop, and in older versions.
        fit: what a method recorded of its fit, in place of a loop or before it.
        search: what the method chose on validation images; None where it chose nothing.
        imported: of a run whose state another code has trained: the file's name and SHA-256.
        files: what the run writes into its folder; empty in runs of older versions.
        checkpoint: SHA-256 of the checkpoint that the training ended with; None before, and in older versions.
        error: why it stopped, where it failed.
    """

    schema_version: Literal[1] = 1
    name: str
    status: Status
    config: StoredConfig
    sources: dict[str, str] = Field(default_factory=dict)
    class_names: tuple[str, ...]
    data: DataInfo
    descriptions: DescriptionsInfo | None = None
    backbone: BackboneInfo
    versions: dict[str, str]
    device: str
    features: str
    trainable_parameters: int
    started: datetime
    finished: datetime | None = None
    steps: int = 0
    seconds: float = 0.0
    peak_memory: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    kept: KeptInfo | None = None
    fit: dict[str, Any] = Field(default_factory=dict)
    search: SearchInfo | None = None
    imported: dict[str, str] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    checkpoint: str | None = None
    error: str | None = None

    def __repr__(self) -> str:
        return f"RunInfo({self.name!r}, {self.status}, {len(self.data.train_ids)} training images, {self.steps} steps)"

    def write(self, folder: Path) -> None:
        """Write run.json into a folder that is there.

        Raises:
            InputError: it cannot be written.
        """
        content = (self.model_dump_json(indent=2) + "\n").encode()
        write_atomic(folder / RUN_FILE, content, make_folder=False)

    @classmethod
    def read(cls, folder: Path) -> RunInfo:
        """Read run.json.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / RUN_FILE
        try:
            if regular(path).stat().st_size > MOST_BYTES:
                raise InputError(f"{path} is no run.json: it is larger than {MOST_BYTES >> 20} MB")
            return cls.model_validate_json(path.read_bytes().removeprefix(BOM_UTF8))
        except OSError as error:
            raise InputError(f"{folder} is not a run: {path.name} cannot be read ({error.strerror})") from error
        except ValidationError as error:
            raise InputError(
                f"{path} is damaged, or of another version ({problem(error)})",
                hint="restore it, or train again with --force",
            ) from error
