"""A run as class embeddings, for whoever has the towers already."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save

from vlmprompt.export.agreement import Difference
from vlmprompt.export.linear_head import LinearHead, read_head
from vlmprompt.export.subject import Subject
from vlmprompt.staging import move_files, staging

KEY = "vlmprompt"  # the one entry of the header: of several, the order would differ from file to file


def to_safetensors(subject: Subject, place: Path) -> tuple[tuple[Path, ...], Difference]:
    """Write the matrix that the method is.

    Raises:
        CapabilityError: it is none.
        InputError: nothing can be written there.
    """
    head, found = read_head(subject.frozen, subject.method, subject.pixels_B3HW)
    with staging(place) as folder:
        (folder / place.name).write_bytes(head_bytes(subject, head))
        move_files(folder, (place,))
    return (place,), found


def head_bytes(subject: Subject, head: LinearHead) -> bytes:
    """The content of a file of class embeddings."""
    said = {**subject.said, "features": "unit" if head.normalized else "raw"}
    return save(dict(head.tensors()), {KEY: json.dumps(said, ensure_ascii=False)})
