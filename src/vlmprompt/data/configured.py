"""The data set of a run, read as its configuration says; no torch is needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from vlmprompt.config.models import RunConfig
from vlmprompt.data.aliases import Aliases
from vlmprompt.data.load import honours_exif, load_dataset
from vlmprompt.data.records import Dataset


def _as_it_was(config: object) -> object:
    """A configuration from before `exif` was there, when no image was turned."""
    if not isinstance(config, dict) or "exif" in config:
        return config
    return {**config, "exif": not honours_exif(str(config.get("data", "")))}


# Of a run that has been written, possibly by an older version.
StoredConfig = Annotated[RunConfig, BeforeValidator(_as_it_was)]


def load_run_dataset(config: RunConfig, root: Path | None) -> Dataset:
    """The data set of a run, as its configuration says it is to be read.

    Raises:
        UsageError, InputError: see `load_dataset` and `Aliases`.
    """
    dataset = load_dataset(
        config.data,
        root=root,
        class_names_file=config.class_names,
        split_seed=config.split_seed,
        accept_split=config.accept_split,
        protocol=config.protocol,
        exif=config.exif,
        allow_outside=config.allow_outside,
    )
    return Aliases.of(config.aliases).own(dataset)
