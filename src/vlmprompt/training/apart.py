"""Where the processes of a run write: the first into its folder, each other into one that is thrown away.

So all of them go through the same steps, and what is written of the run is written once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load, save

from vlmprompt.atomic import write_atomic
from vlmprompt.config.models import RunConfig
from vlmprompt.parallel.group import Group
from vlmprompt.parallel.place import own_place
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.places import RUN_FILE
from vlmprompt.training.provenance import versions
from vlmprompt.training.trainset import TrainSet


def require_alike(group: Group, config: RunConfig, data: TrainSet) -> None:
    """Refuse processes that would not train the same run.

    Raises:
        InputError: names what differs.
    """
    if group.alone:
        return
    packages = ", ".join(f"{name} {version}" for name, version in versions(config.method).items())
    group.require_same("package versions", packages, f"install the same everywhere; this one has {packages}")
    group.require_same("settings", config.model_dump_json(), "give all the same options, files and variables")
    group.require_same("training images", data.digests.learned, "give all the same data, --root and descriptions")


@contextmanager
def own_folder(group: Group, folder: RunFolder) -> Iterator[RunFolder]:
    """The run's folder as this process sees it."""
    with own_place(group, folder.path) as path:
        yield RunFolder(path)


def hand_out(group: Group, folder: RunFolder) -> None:
    """Give the other processes what is there of a run that may go on: its record, its state and its log."""
    if group.alone:
        return
    files = [folder.path / RUN_FILE, folder.checkpoint, folder.log] if group.first else []
    there = {file.name: _bytes(file) for file in files if file.is_file()}
    for name, content in load(group.from_first(save(there))).items():
        if not group.first:
            folder.create()
            write_atomic(folder.path / name, content.numpy().tobytes(), make_folder=False)


def _bytes(file: Path) -> torch.Tensor:
    content = bytearray(file.read_bytes())
    return torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
