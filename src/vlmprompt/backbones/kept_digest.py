"""The digest of weights that a file holds, kept in the user's cache folder: half a second for each GB otherwise.

It is found again only where path, size, times and inode of the file are what they were, and sums over all tensors in
memory, too, a fifth of the work: so neither another file nor towers that were changed after loading get it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmprompt.atomic import write_atomic
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.config.places import user_cache
from vlmprompt.errors import InputError

FOLDER = "digests"
WORDS = 1021  # a prime, so that rows of a weight that change places come under other sums


def weights_digest(tensors: Mapping[str, Tensor], file: str | None) -> str:
    """See `tensors_digest`.

    Args:
        file: absolute path of the file or folder that the tensors were read from; None: nothing is kept.
    """
    seen = None if file is None else _seen(Path(file), tensors)
    if seen is None:
        return tensors_digest(tensors)
    try:
        place = user_cache(FOLDER) / f"{sha256(seen['path'].encode(errors='surrogateescape')).hexdigest()[:32]}.json"
    except InputError:  # the cache folder is that of nobody, which is said where it is needed
        return tensors_digest(tensors)
    kept = _read(place)
    if kept.get("seen") == seen and isinstance(kept.get("digest"), str):
        return str(kept["digest"])
    digest = tensors_digest(tensors)
    with suppress(InputError):  # a folder that nothing can be written to: then it is computed each time
        write_atomic(place, json.dumps({"seen": seen, "digest": digest}).encode())
    return digest


def sums_digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of exact sums over all bytes of each tensor, of its name, type and shape."""
    return tensors_digest({f"{name} {tuple(t.shape)} {t.dtype}": _sums(t) for name, t in tensors.items()})


def _sums(tensor: Tensor) -> Tensor:
    """Sums of every `WORDS`-th eight bytes as integers modulo 2^64, and what is left over; uint8, on its device.

    Integers add up to the same in any order, and a change of one number changes a sum.
    """
    flat = tensor.detach().contiguous().flatten().view(torch.uint8)
    if flat.storage_offset() % 8:  # no whole numbers begin there
        flat = flat.clone()
    end = len(flat) // (8 * WORDS) * 8 * WORDS
    sums = flat[:end].view(torch.int64).view(-1, WORDS).sum(dim=0)
    return torch.cat([sums.view(torch.uint8), flat[end:]])


def _seen(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """What the file and the tensors are known by, as JSON has it; None where there is no file any more."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError:
        return None
    stamps = [[name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_dev, s.st_ino] for name, s in stats]
    return {"path": str(path), "files": stamps, "sums": sums_digest(tensors)}


def _read(place: Path) -> dict[str, Any]:
    try:
        found = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
