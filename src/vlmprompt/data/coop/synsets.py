"""ImageNet's classes: WordNet ids from timm's package data, CLIP's names for them from open_clip's.

Both are read as files. Importing timm would load torch, and open_clip may only be imported in
backbones/openclip/, which is above the data layer.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache

from vlmprompt.installed import assigned, package_file

_NAMES = "IMAGENET_CLASSNAMES"


@cache
def synsets(which: str) -> tuple[str, ...]:
    """The WordNet ids of "imagenet", "imagenet_a" or "imagenet_r", sorted: the order of labels.

    Raises:
        InputError: the installed timm has no such list.
    """
    text = package_file("timm", f"data/_info/{which}_synsets.txt")
    return tuple(sorted(text.split()))


@cache
def imagenet_names() -> tuple[str, ...]:
    """CLIP's curated names of the 1000 classes, in label order ("missile" and "sunglasses" twice each).

    Raises:
        InputError: the installed open_clip has no such list.
    """
    names: tuple[str, ...] = tuple(ast.literal_eval(assigned("open_clip", "zero_shot_metadata.py", _NAMES)))
    return names


def names_of(wnids: Sequence[str]) -> tuple[str, ...]:
    """CLIP's names of some of the classes."""
    names = dict(zip(synsets("imagenet"), imagenet_names(), strict=True))
    return tuple(names[wnid] for wnid in wnids)
