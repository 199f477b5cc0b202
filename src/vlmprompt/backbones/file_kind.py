"""What a file of weights is, told by its first bytes: for errors that name it, in place of what libraries say."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

TORCH = "a file of torch.save"
PICKLE = "a pickle, as older versions of torch.save wrote it"
PROGRAM = "a TorchScript program"
SAFETENSORS = "a safetensors file"
ARRAYS = "NumPy arrays"
WEIGHTS = (TORCH, PICKLE, PROGRAM, SAFETENSORS)
_STARTS = {
    b"\x80": PICKLE,
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "compressed by gzip",
    b"version https://git-lfs": "a Git LFS pointer, in place of the file that it points to",
    b"<": "a web page or another text in angle brackets",
    b"GGUF": "a GGUF file, as llama.cpp reads it",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
}
_ONNX = re.compile(rb"\x08[\x03-\x20](\x12|:)", re.DOTALL)  # protobuf: the format's version, then a name or the graph


def file_kind(path: Path) -> str:
    """In words, such as "a web page"; reads nothing but names and first bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "empty"
    if start.startswith(b"PK"):
        return _archive(path)
    for first, kind in _STARTS.items():
        if start.startswith(first):
            return kind
    if start[8:9] == b"{":
        return SAFETENSORS
    if _ONNX.match(start):
        return "an ONNX model"
    return "text" if start.isascii() and b"\0" not in start else "of an unknown kind"


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return f"{TORCH} or another zip archive that is not whole"
    if names and all(name.endswith(".npy") for name in names):
        return ARRAYS
    if "data.pkl" not in names:
        return "a zip archive, but none of torch.save"
    return PROGRAM if "constants.pkl" in names else TORCH
