"""ImageNet's classes: WordNet ids from timm's package data, CLIP's names for them from open_clip's.

Both are read as files. Importing timm would load torch, and open_clip may only be imported in
backbones/openclip/, which is above the data layer.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vlmprompt.errors import InputError

_NAMES = "IMAGENET_CLASSNAMES"


@cache
def synsets(which: str) -> tuple[str, ...]:
    """The WordNet ids of "imagenet", "imagenet_a" or "imagenet_r", sorted: the order of labels.

    Raises:
        InputError: the installed timm has no such list.
    """
    text = _package_file("timm", f"data/_info/{which}_synsets.txt")
    return tuple(sorted(text.split()))


@cache
def imagenet_names() -> tuple[str, ...]:
    """CLIP's curated names of the 1000 classes, in label order ("missile" and "sunglasses" twice each).

    Raises:
        InputError: the installed open_clip has no such list.
    """
    file = "zero_shot_metadata.py"
    for statement in ast.parse(_package_file("open_clip", file)).body:
        if isinstance(statement, ast.Assign) and any(ast.unparse(target) == _NAMES for target in statement.targets):
            names: tuple[str, ...] = tuple(ast.literal_eval(statement.value))
            return names
    raise InputError(f"open_clip's {file} has no {_NAMES}", hint="install open_clip_torch 3.3")


def names_of(wnids: Sequence[str]) -> tuple[str, ...]:
    """CLIP's names of some of the classes."""
    names = dict(zip(synsets("imagenet"), imagenet_names(), strict=True))
    return tuple(names[wnid] for wnid in wnids)


def _package_file(package: str, file: str) -> str:
    """A text file of an installed package, which is not imported."""
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / file
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise InputError(f"package {package} is not installed, or has no {file}", hint=f"reinstall {package}")
