"""A file of the store: the features of some consecutive images, written whole or not at all.

safetensors, memory-mapped when read back, with one metadata entry "vlmprompt": the key of what was computed, each
tensor's type and shape, and a digest of each. A tensor that is read is held against its digest once a process; those
that nobody reads stay on the disk. What does not agree is named, moved aside and made anew: a store never stops a run.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlmprompt.atomic import replacing
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.backbones.store.place import PREFIX, SUFFIX, USED, Store
from vlmprompt.claims.claim import BusyError, claim
from vlmprompt.errors import InputError
from vlmprompt.regular import regular

HEADER_KEY = "vlmprompt"
# Tensors that this process has found to be what their digests say, in files as they were: inode, size, time of change.
_verified: dict[tuple[Path, str], tuple[int, int, int]] = {}


class UnfitError(Exception):
    """A file is not what it should be; says why, as what follows its name."""


class NoRoomError(Exception):
    """The store is full."""


@dataclass(frozen=True)
class Shard:
    """The place of some features in a store.

    Attributes:
        folder: of the store.
        key: SHA-256 of all that the content depends on.
        rows: images in it.
    """

    folder: Path
    key: str
    rows: int

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.folder / f"{PREFIX}{self.key[:32]}{SUFFIX}"

    def is_there(self) -> bool:
        """Whether there is a file that says that it is what is wanted; its tensors are not looked at.

        Raises:
            UnfitError: there is something else in its place.
        """
        if not os.path.lexists(self.path):
            return False
        self._opened()
        return True

    def read(self, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Some tensors of it, memory-mapped; all by default.

        Raises:
            UnfitError: they cannot be read, or are not what was written.
        """
        header, tensors, state = self._opened(names)
        for name, tensor in tensors.items():
            if _verified.get((self.path, name)) != state:
                if tensors_digest({name: tensor}) != header["digests"].get(name):
                    raise UnfitError(f"are damaged: the content of {name} is not that of its digest")
                _verified[self.path, name] = state
        return tensors

    def write(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any], store: Store) -> None:
        """Keep tensors on the CPU.

        Args:
            about: what they are, for people.

        Raises:
            NoRoomError: the store has no room for them.
            InputError: they cannot be written.
        """
        header = {
            "key": self.key,
            "about": dict(about),
            "tensors": _described(tensors),
            "digests": {name: tensors_digest({name: tensor}) for name, tensor in tensors.items()},
        }
        with store.changing():
            if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > store.room:
                raise NoRoomError
            try:
                with replacing(self.path) as part:
                    save_file(dict(tensors), part, {HEADER_KEY: json.dumps(header, sort_keys=True)})
            except SafetensorError as error:
                raise InputError(f"cannot write {self.path}: {str(error).splitlines()[0]}") from error

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one who computes it; where nothing can be written there is nothing to share.

        Raises:
            BusyError: somebody else is.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(claim(self.folder, self.path.stem, f"computing of {self.path.name}"))
            except BusyError:
                raise
            except InputError:  # `write` will tell
                pass
            yield

    def touch(self) -> None:
        """Note that it is used now: files that were not for longest are the first to be pruned.

        The time of an empty file beside it: times of access change with whoever looks, and not on every file system.
        """
        with suppress(OSError):
            stamp = self.folder / USED / self.path.name
            stamp.parent.mkdir(exist_ok=True)
            stamp.touch()

    def move_aside(self) -> str:
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

    def _opened(self, names: Collection[str] | None = ()) -> tuple[Any, dict[str, Tensor], tuple[int, int, int]]:
        """The header, some tensors that agree with it, and the state of the file."""
        header, found, state = opened(self.path, names)
        if header.get("key") != self.key:
            raise UnfitError("are of other images, towers or settings than their name says")
        said = {name: header["tensors"].get(name) for name in found}
        if (described := _described(found)) != said:
            words = ", ".join(f"{name} is {described[name]}, not {said[name]}" for name in sorted(found)[:2])
            raise UnfitError(f"are not what their header says ({words})")
        if any(len(tensor) != self.rows for tensor in found.values()):
            raise UnfitError("have other numbers of rows than there are images")
        return header, found, state


def opened(path: Path, names: Collection[str] | None = ()) -> tuple[Any, dict[str, Tensor], tuple[int, int, int]]:
    """The header of a file, some of its tensors, memory-mapped (all of them: None), and its state.

    Raises:
        UnfitError: it cannot be read, or has no header of this version.
    """
    try:
        with safe_open(regular(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER_KEY])
            there = set(file.keys())
            wanted = sorted(there if names is None else names)
            found = {name: file.get_tensor(name) for name in wanted if name in there}
        seen = path.stat()
    except (OSError, SafetensorError) as error:
        raise UnfitError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise UnfitError("have no header of this version") from error
    if not isinstance(header, dict) or not all(isinstance(header.get(key), dict) for key in ("tensors", "digests")):
        raise UnfitError("have no header of this version")
    if missing := [name for name in header["tensors"] if name not in there] or [
        name for name in wanted if name not in there
    ]:
        raise UnfitError(f"are not what their header says ({missing[0]} is missing)")
    if more := sorted(there - header["tensors"].keys()):
        raise UnfitError(f"are not what their header says ({more[0]} is not named there)")
    return header, found, (seen.st_ino, seen.st_size, seen.st_mtime_ns)


def _described(named: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> type and shape, in words."""
    return {name: f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for name, t in named.items()}
