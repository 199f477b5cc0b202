"""What a backbone spec names, and what to write in place of one that names nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import open_clip
from open_clip.pretrained import list_pretrained

from vlmprompt.backbones.openclip.activation import TWIN
from vlmprompt.backbones.openclip.fit import architectures_of
from vlmprompt.backbones.weights.file import read_weights
from vlmprompt.backbones.weights.folder import FOLDER
from vlmprompt.backbones.weights.names import is_repository, place_here
from vlmprompt.errors import UsageError, VlmPromptError, did_you_mean
from vlmprompt.plugins import host

HUB = "hf-hub:"
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".npz", ".onnx", ".tar")


def architectures() -> list[str]:
    """Names of all open_clip architectures."""
    return sorted(open_clip.list_models())


def known_architecture(name: str, spec: str) -> str:
    """The name of an architecture that open_clip has.

    Args:
        spec: the whole of what was asked for, which may be the name of something else.

    Raises:
        UsageError: it has none; says what was probably meant.
    """
    if name in open_clip.list_models():
        return name
    path = Path(spec).expanduser()
    if spec.startswith(("/", "./", "../", "~")) or path.suffix in SUFFIXES or path.exists():
        raise UsageError(f"backbone {spec!r} is a path without an architecture", hint=_form_of_path(path))
    here = place_here(spec, open_clip.list_models(), _repositories())
    if here is not None:
        where = "a name of the Hugging Face hub" if is_repository(spec) and "@" not in spec else "a name"
        raise UsageError(f"{spec!r} is {where}, not a backbone of open_clip", hint=f"use --backbone {here}")
    known = [*host().backbones.names(), *open_clip.list_models()]
    hint = f"{did_you_mean(name, known)} ('vlmprompt backbones list --architectures' lists all)"
    if is_repository(spec):
        hint += f"; for a repository of the Hugging Face hub: --backbone {HUB}{spec}"
    raise UsageError(f"unknown architecture {name!r}", hint=hint)


def _repositories() -> Mapping[str, str]:
    """Repository of the hub -> backbone spec, as open_clip lists its pretrained weights."""
    found: dict[str, str] = {}
    for architecture, tag in list_pretrained():
        config = open_clip.get_pretrained_cfg(architecture, tag)
        twin = bool(config.get("quick_gelu")) == architecture.endswith(TWIN)
        if twin and (repository := str(config.get("hf_hub", "")).rpartition("/")[0]):
            found.setdefault(repository.lower(), f"{architecture}/{tag}")
    return found


def _form_of_path(path: Path) -> str:
    """What to write for a path: with the architecture, where its tensors tell it."""
    if path.is_dir():
        return f"use --backbone {FOLDER}{path}, or ARCHITECTURE/FILE for a file in it"
    general = f"write the architecture before it, such as --backbone ViT-B-16/{path}"
    if not path.exists():
        return f"there is no such file; {general}"
    try:
        like = architectures_of(read_weights(path))
    except VlmPromptError as error:
        return error.told
    return f"by its shapes use --backbone {' or '.join(f'{name}/{path}' for name in like[:2])}" if like else general
