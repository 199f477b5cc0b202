"""The tensors of a TorchScript archive, without running or compiling anything of it.

Such an archive is a zip file: `data.pkl`, a pickle of the module with its attributes; `data/<n>`, the bytes of each
storage; and the module's code, which is left alone. The pickle is read with instructions and names from a short list
only: modules become plain bags of attributes, and the only things built are tensors, numbers, texts and lists.
"""

from __future__ import annotations

import collections
import io
import pickle  # noqa: TID251 (read by a short list of names and instructions)
import pickletools
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST_PICKLE_BYTES = 64 << 20  # of OpenAI's largest archive it is less than 1 MB
_INSTRUCTIONS = frozenset(
    {"PROTO", "STOP", "MARK", "POP", "POP_MARK", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}
    | {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
    | {"SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
)
_DAMAGES = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, EOFError, RecursionError),
    *(AttributeError, IndexError, KeyError, TypeError, ValueError),
)
_STORES = ("BINPUT", "LONG_BINPUT")
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ArchiveError(Exception):
    """An archive is not as torch writes them; says why, as what follows its name."""


class Bag:
    """A module of the archive: its attributes and nothing else."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise ArchiveError("holds an object with a state of its own")
        self.attributes = state


def read_archive(path: Path) -> tuple[dict[str, Tensor], set[str]]:
    """The module's tensors by dotted name, and the names of the classes of its modules (such as `QuickGELU`).

    Raises:
        ArchiveError: it is damaged, or its pickle asks for more than tensors and plain values.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reader = _Reader(archive)
            return dict(_tensors(reader.load(), "")), reader.classes
    except _DAMAGES as error:
        raise ArchiveError("is damaged") from error


class _Reader(pickle.Unpickler):
    """Reads `data.pkl`; whatever is not on its lists is refused before anything is built."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        names = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(names) != 1:
            raise ArchiveError("has no data.pkl of its own")
        self._archive = archive
        self._root = names[0].partition("/")[0]
        self._storages: dict[str, Tensor] = {}
        self.classes: set[str] = set()
        if self._is_foreign_order():
            raise ArchiveError("was written on a machine of the other byte order")
        content = self._bytes("data.pkl", MOST_PICKLE_BYTES)
        _check_instructions(content)
        super().__init__(io.BytesIO(content))

    def find_class(self, module: str, name: str, /) -> Any:
        """What a name in the pickle stands for."""
        if module.partition(".")[0] == "__torch__":
            self.classes.add(name)
            return Bag
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("collections", "OrderedDict"): _empty_table,
            **{("torch.jit._pickle", f"build_{kind}list"): list for kind in ("int", "double", "bool", "tensor")},
            ("torch.jit._pickle", "restore_type_tag"): _untagged,
        }
        if (module, name) not in known:
            raise ArchiveError(f"asks for {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any, /) -> Tensor:
        """A storage, as a flat tensor: ("storage", type, name, device, number of elements)."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(name), str(), int()):
                if name not in self._storages:
                    content = bytearray(self._bytes(f"data/{name}"))
                    empty = torch.empty(0, dtype=dtype)
                    self._storages[name] = torch.frombuffer(content, dtype=dtype) if content else empty
                return self._storages[name]
        raise ArchiveError("holds storages of an unknown kind")

    def _is_foreign_order(self) -> bool:
        """Archives of older versions of torch do not say; they are of little-endian machines."""
        try:
            order = self._bytes("byteorder", 16).decode()
        except KeyError:
            order = "little"
        return order.strip() != sys.byteorder

    def _bytes(self, name: str, most: int | None = None) -> bytes:
        info = self._archive.getinfo(f"{self._root}/{name}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ArchiveError("is compressed, as torch writes none")
        if most is not None and info.file_size > most:
            raise ArchiveError(f"has a {name} of {info.file_size >> 20} MB")
        return self._archive.read(info)


def _check_instructions(content: bytes) -> None:
    """Refuse a pickle with instructions beyond those that torch writes, or that numbers its memory beyond its size."""
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name not in _INSTRUCTIONS:
            raise ArchiveError(f"holds the pickle instruction {instruction.name}, which torch does not write")
        if instruction.name in _STORES and (not isinstance(argument, int) or argument > len(content)):
            raise ArchiveError("is damaged")


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view into a storage; one that would reach beyond it raises ValueError."""
    try:
        return torch.as_strided(storage, tuple(size), tuple(stride), offset)
    except RuntimeError as error:
        raise ValueError("a tensor reaches beyond its storage") from error


def _empty_table(*_: Any) -> dict[str, Any]:
    """Where torch keeps a tensor's hooks, of which none are read."""
    return collections.OrderedDict()


def _untagged(value: Any, _: str) -> Any:
    return value


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors among the attributes of a module and of those below it."""
    if not isinstance(module, Bag):
        return
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _tensors(value, f"{prefix}{name}.")
