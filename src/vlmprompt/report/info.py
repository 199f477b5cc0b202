"""`run.json` as the page reads it: without torch, and whichever version has written it."""

from __future__ import annotations

from codecs import BOM_UTF8
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.data.configured import StoredConfig
from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.training.places import RUN_FILE


class _Model(BaseModel):
    """What the page does not know, it leaves alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class DataInfo(_Model):
    """See `training.provenance.DataInfo`."""

    spec: str
    name: str
    digest: str
    classes: int
    labels: tuple[int, ...]
    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    val_source: str = ""
    fewshot_digest: str = ""


class BackboneInfo(_Model):
    """See `training.provenance.BackboneInfo`."""

    spec: str
    name: str
    digest: str
    random_weights: int | None = None


class DescriptionsInfo(_Model):
    """See `training.provenance.DescriptionsInfo`."""

    file: str
    digest: str
    texts: int


class KeptInfo(_Model):
    """See `training.provenance.KeptInfo`."""

    state: str
    epoch: int
    epochs: int
    planned: int
    val_accuracy: float | None = None
    val_images: int = 0


class RunInfo(_Model):
    """The content of run.json; see `training.provenance.RunInfo`, which the training writes."""

    name: str
    status: str
    config: StoredConfig
    sources: dict[str, str] = Field(default_factory=dict)
    class_names: tuple[str, ...]
    data: DataInfo
    descriptions: DescriptionsInfo | None = None
    backbone: BackboneInfo
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = ""
    features: str = ""
    trainable_parameters: int = 0
    started: datetime
    finished: datetime | None = None
    steps: int = 0
    seconds: float = 0.0
    peak_memory: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    kept: KeptInfo | None = None
    fit: dict[str, Any] = Field(default_factory=dict)
    imported: dict[str, str] = Field(default_factory=dict)
    checkpoint: str | None = None
    error: str | None = None

    @classmethod
    def read(cls, folder: Path) -> RunInfo:
        """Read run.json.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / RUN_FILE
        try:
            return cls.model_validate_json(regular(path).read_bytes().removeprefix(BOM_UTF8))
        except OSError as error:
            raise InputError(f"{folder} is not a run: {path.name} cannot be read ({error.strerror})") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "JSON"
            raise InputError(
                f"{path} is damaged, or of another version ({where}: {first['msg']})",
                hint="restore it, or train again with --force",
            ) from error
