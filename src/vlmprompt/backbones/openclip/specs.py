"""Names of open_clip's architectures and weights, and which of them belong together."""

from __future__ import annotations

import open_clip

from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.plugins import host

TWIN = "-quickgelu"


def architectures() -> list[str]:
    """Names of all open_clip architectures."""
    return sorted(open_clip.list_models())


def known_architecture(name: str) -> str:
    """The name itself.

    Raises:
        UsageError: no such architecture.
    """
    if open_clip.get_model_config(name) is None:
        known = [*host().backbones.names(), *open_clip.list_models()]
        hint = f"{did_you_mean(name, known)} ('vlmprompt backbones list --architectures' lists all)"
        raise UsageError(f"unknown architecture {name!r}", hint=hint)
    return name


def force_for_tag(architecture: str, tag: str, quick_gelu: bool | None) -> bool:
    """Whether to force QuickGELU; raises where open_clip would only warn of an activation mismatch."""
    wanted = bool(open_clip.get_pretrained_cfg(architecture.removesuffix(TWIN), tag).get("quick_gelu", False))
    built = bool(open_clip.get_model_config(architecture).get("quick_gelu", False)) or quick_gelu is True
    if wanted != built:
        twin = architecture + TWIN if wanted else architecture.removesuffix(TWIN)
        raise InputError(
            f"weights {tag!r} were trained {'with' if wanted else 'without'} QuickGELU, "
            f"{architecture!r} is built {'with' if built else 'without'} it: every number would be wrong",
            hint=f"use --backbone {twin}/{tag}",
        )
    return quick_gelu is True


def force_for_file(architecture: str, quick_gelu: bool | None) -> bool:
    """Whether to force QuickGELU for a checkpoint file, which does not say what it was trained with."""
    has_twin = architecture + TWIN in open_clip.list_models()
    if has_twin and quick_gelu is None:
        raise UsageError(
            f"a checkpoint file of {architecture!r} can be with or without QuickGELU, and does not say which",
            hint="say --quick-gelu (OpenAI's weights and those fine-tuned from them) or --no-quick-gelu",
        )
    if architecture.endswith(TWIN) and quick_gelu is False:
        raise UsageError(f"{architecture!r} is built with QuickGELU", hint=f"use {architecture.removesuffix(TWIN)!r}")
    return quick_gelu is True
