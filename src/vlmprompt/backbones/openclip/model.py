"""A CLIP by its architecture: open_clip's, or the same of our own parts where that is faster to come by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vlmprompt.backbones.openclip.clip import filled
from vlmprompt.backbones.openclip.unfilled import unfilled

_KNOWN = {
    "vision_cfg": {"image_size", "patch_size", "width", "head_width", "layers"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}


def clip_model(
    architecture: Mapping[str, Any], *, state: Mapping[str, Tensor] | None = None, seed: int = 0
) -> nn.Module:
    """open_clip's `CLIP` with the weights of `state`, or with random ones.

    With weights, QuickGELU and a plain ViT it is `clip.Clip`, which has the same parameters and numbers: importing
    open_clip takes long.

    Args:
        architecture: arguments of `open_clip.model.CLIP`.
        seed: of random weights.
    """
    if state is not None and _is_plain(architecture):
        return filled(architecture, state)
    from vlmprompt.backbones.openclip.build import random_clip

    if state is None:
        return random_clip(architecture, seed=seed)
    with unfilled():
        model = random_clip(architecture, seed=seed)
    model.load_state_dict(dict(state))
    return model


def _is_plain(architecture: Mapping[str, Any]) -> bool:
    """Whether `clip.Clip` knows all that is asked for."""
    parts = all(set(architecture[part]) == known for part, known in _KNOWN.items())
    whole = set(architecture) == {"embed_dim", "quick_gelu", *_KNOWN}
    return parts and whole and architecture["quick_gelu"] and isinstance(architecture["vision_cfg"]["layers"], int)
