"""QuickGELU or not: weights go with the activation that they were trained with, or every number is wrong."""

from __future__ import annotations

import open_clip

from vlmprompt.backbones.listed import TWIN
from vlmprompt.backbones.weights.file import Weights
from vlmprompt.errors import InputError, UsageError


def for_tag(architecture: str, tag: str, quick_gelu: bool | None) -> bool:
    """Whether to force QuickGELU; raises where open_clip would only warn of an activation mismatch.

    An architecture without a twin is what its weights were trained as, whatever open_clip's list of them leaves out.

    Raises:
        InputError: the architecture is built otherwise than the weights were trained.
    """
    wanted = bool(open_clip.get_pretrained_cfg(architecture.removesuffix(TWIN), tag).get("quick_gelu", False))
    built = _is_quick(architecture) or quick_gelu is True
    twin = architecture + TWIN if wanted else architecture.removesuffix(TWIN)
    if wanted != built and (twin != architecture or quick_gelu) and twin in open_clip.list_models():
        raise InputError(
            f"weights {tag!r} were trained {_with(wanted)} QuickGELU, "
            f"{architecture!r} is built {_with(built)} it: every number would be wrong",
            hint=f"use --backbone {twin}/{tag}" if twin != architecture else "leave that flag out",
        )
    return quick_gelu is True


def for_file(architecture: str, weights: Weights, quick_gelu: bool | None) -> bool:
    """Whether to force QuickGELU for a file, which may or may not say what it was trained with.

    Raises:
        UsageError: it does not say, and nobody else does.
        InputError: the architecture is built otherwise than the weights were trained.
    """
    plain = architecture.removesuffix(TWIN)
    twins = {plain, plain + TWIN} <= set(open_clip.list_models())
    if architecture.endswith(TWIN) and quick_gelu is False:
        raise UsageError(f"{architecture!r} is built with QuickGELU", hint=f"use {plain!r}")
    said, built = weights.quick_gelu, _is_quick(architecture) or quick_gelu is True
    if said is None and twins and quick_gelu is None and architecture == plain:
        raise UsageError(
            f"a checkpoint file of {architecture!r} can be with or without QuickGELU, and does not say which",
            hint="say --quick-gelu (OpenAI's weights and those fine-tuned from them) or --no-quick-gelu",
        )
    if said is None or said == built:
        return quick_gelu is True
    if said and quick_gelu is None and not twins:
        return True
    twin = plain + TWIN if said else plain
    raise InputError(
        f"{weights.path} ({weights.kind}) was trained {_with(said)} QuickGELU, {architecture!r} is built "
        f"{_with(built)} it: every number would be wrong",
        hint=f"use --backbone {twin}/{weights.path}" if twin != architecture else "leave that flag out",
    )


def require_described(spec: str, said: bool, quick_gelu: bool | None) -> None:
    """Refuse an activation other than the one that a folder's description says.

    Raises:
        InputError: they contradict each other.
    """
    if quick_gelu not in (None, said):
        raise InputError(
            f"{spec} is described as a model {_with(said)} QuickGELU: every number would be wrong {_with(not said)} it",
            hint="leave that flag out",
        )


def _is_quick(architecture: str) -> bool:
    return bool((open_clip.get_model_config(architecture) or {}).get("quick_gelu", False))


def _with(is_so: bool) -> str:
    return "with" if is_so else "without"
