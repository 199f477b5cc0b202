"""A file of the feature cache: written whole or not at all, and used only where it is what it says.

safetensors, memory-mapped when read back, with one metadata entry "vlmprompt": the key of what was computed,
each tensor's type and shape, and a digest of them all. What does not agree is named, moved aside and made anew; a
cache never stops a run.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlmprompt.atomic import replacing
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.claims.claim import BusyError, claim
from vlmprompt.errors import InputError
from vlmprompt.progress import Progress
from vlmprompt.regular import regular

HEADER_KEY = "vlmprompt"
LABELS = "labels"
# Files whose digest this process has found to be right, as they were then: inode, size, time of change.
_verified: dict[Path, tuple[int, int, int]] = {}


class UnfitError(Exception):
    """A file is not what it should be; says why, as what follows its name."""


@dataclass(frozen=True)
class FeatureFile:
    """The place of features in the cache.

    Attributes:
        path: of the file.
        key: of all that its content depends on.
        labels: of the images, view after view; int64.
    """

    path: Path
    key: str
    labels: Tensor

    def read(self, progress: Progress) -> dict[str, Tensor] | None:
        """The tensors by name, labels among them; None where there is no file, or none that can be used.

        Args:
            progress: gets a warning that names what is wrong with the file.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            return self._checked()
        except UnfitError as error:
            progress.warn(f"cached features {self.path} {error}: {self._move_aside()}; they are computed anew")
            return None

    def state(self) -> tuple[int, int] | None:
        """By which another file in its place is known; None where there is none."""
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one who computes what goes there; where nothing can be written there is nothing to share.

        Raises:
            BusyError: somebody else is.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(claim(self.path.parent, self.path.stem, f"computing of {self.path.name}"))
            except BusyError:
                raise
            except InputError:  # `write` will warn
                pass
            yield

    def write(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Keep tensors; where that fails they are not kept, and `progress` gets a warning."""
        named = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {"key": self.key, "tensors": _described(named), "digest": tensors_digest(named)}
        try:
            with replacing(self.path) as part:
                save_file(named, part, {HEADER_KEY: json.dumps(header, sort_keys=True)})
        except (InputError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            progress.warn(f"features are not kept in {self.path}: {reason}; the run goes on without the cache")

    def _checked(self) -> dict[str, Tensor]:
        try:
            with safe_open(regular(self.path), framework="pt") as file:
                header = json.loads((file.metadata() or {})[HEADER_KEY])
                named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            state = self.path.stat()
        except (OSError, SafetensorError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise UnfitError(f"cannot be read ({reason})") from error
        except (KeyError, ValueError, RecursionError) as error:
            raise UnfitError("have no header of this version") from error
        self._require(header, named)
        self._require_digest(header.get("digest"), named, (state.st_ino, state.st_size, state.st_mtime_ns))
        return named

    def _require(self, header: Any, named: Mapping[str, Tensor]) -> None:
        if not isinstance(header, dict) or not isinstance(header.get("tensors"), dict):
            raise UnfitError("have no header of this version")
        if header.get("key") != self.key:
            raise UnfitError("are of other images, towers or settings than their name says")
        found, said = _described(named), header["tensors"]
        if found != said:
            names = sorted(name for name in {*found, *said} if found.get(name) != said.get(name))
            words = ", ".join(f"{name} is {found.get(name, 'missing')}, not {said.get(name)}" for name in names[:2])
            raise UnfitError(f"are not what their header says ({words})")
        if not torch.equal(named.get(LABELS, torch.empty(0)), self.labels):
            raise UnfitError("have other labels than the images")
        if any(len(tensor) != len(self.labels) for tensor in named.values()):
            raise UnfitError("have other numbers of rows than there are images")

    def _require_digest(self, digest: object, named: Mapping[str, Tensor], state: tuple[int, int, int]) -> None:
        """All bytes are read for it, so once a process is enough."""
        if _verified.get(self.path) == state:
            return
        if tensors_digest(named) != digest:
            raise UnfitError("are damaged: their content is not that of their digest")
        _verified[self.path] = state

    def _move_aside(self) -> str:
        """Give the file another name, for whoever wants to look at it; says so."""
        for number in itertools.count(1):
            aside = self.path.with_name(f"{self.path.name}.damaged{'' if number == 1 else f'-{number}'}")
            if not os.path.lexists(aside):
                break
        try:
            self.path.rename(aside)
        except OSError as error:
            return f"left there, as it cannot be moved ({error.strerror})"
        return f"moved to {aside.name}"


def _described(named: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> type and shape, in words."""
    return {name: f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for name, t in named.items()}
