"""Which code a number came from: a release, or a checkout that changes while its version stays."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

UNKNOWN = "unknown"
# Of a package's files, those that decide what it computes: code, and the settings that it ships.
_CODE = {".py", ".toml", ".txt"}


@cache
def code_version(name: str) -> str:
    """The version of an installed distribution; of an editable one with a digest of its modules behind a "+"."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return UNKNOWN
    return f"{found.version}+{modules_digest(found)}" if _is_editable(found) else found.version


def modules_digest(found: Distribution) -> str:
    """Twelve digits of a SHA-256 over the code of the packages that a distribution's entry points name."""
    digest = hashlib.sha256()
    for package in sorted({point.module.partition(".")[0] for point in found.entry_points}):
        for name, file in _code_files(package).items():
            digest.update(f"{package}/{name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _code_files(package: str) -> dict[str, Path]:
    """Name within the package -> file, in order; nothing is imported."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return {}
    folders = spec.submodule_search_locations
    if folders is None:  # a single module
        return {"": Path(spec.origin)} if spec.origin else {}
    files = sorted((folder, file) for folder in folders for file in Path(folder).rglob("*") if file.suffix in _CODE)
    return {file.relative_to(folder).as_posix(): file for folder, file in files}


def _is_editable(found: Distribution) -> bool:
    """By PEP 610's record of a direct install."""
    record = json.loads(found.read_text("direct_url.json") or "{}")
    return bool(record.get("dir_info", {}).get("editable", False))
