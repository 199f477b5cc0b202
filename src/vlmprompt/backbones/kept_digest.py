"""The digest of weights that a file holds, kept in the user's cache folder: half a second for each GB otherwise.

It is found again only where path, size, times and inode of the file are what they were, and a sample of the tensors in
memory, some numbers of each, too: so neither another file nor towers that were changed after loading get it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from vlmprompt.atomic import write_atomic
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.config.places import user_cache
from vlmprompt.errors import InputError

FOLDER = "digests"
SAMPLE = 64  # numbers of each tensor, evenly spread


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


def sample_digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of some numbers of each tensor, of its name, type and shape."""
    return tensors_digest(
        {
            f"{name} {tuple(tensor.shape)}": tensor.detach().flatten()[:: max(1, tensor.numel() // SAMPLE)]
            for name, tensor in tensors.items()
        }
    )


def _seen(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """What the file and the tensors are known by, as JSON has it; None where there is no file any more."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError:
        return None
    stamps = [[name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_dev, s.st_ino] for name, s in stats]
    return {"path": str(path), "files": stamps, "sample": sample_digest(tensors)}


def _read(place: Path) -> dict[str, Any]:
    try:
        found = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
