"""Which kind of text tower a model has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vlmprompt.backbones.openclip.blocks import residual_blocks, unfit_any
from vlmprompt.backbones.text.causal import CausalTower
from vlmprompt.backbones.text.tower import TextTower, Words
from vlmprompt.errors import CapabilityError

_PARTS = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")


def text_tower(model: Any, words: Words, name: str) -> TextTower:
    """The text side of a `CLIP` (its own attributes) or of a `CustomTextCLIP` (`model.text`).

    Args:
        name: of the backbone, for errors.

    Raises:
        CapabilityError: a tower that no engine can run; says why.
    """
    text = getattr(model, "text", model)
    if (reason := _unfit(text)) is not None:
        raise CapabilityError(
            f"the text tower of backbone {name!r} cannot take learned prompts: {reason}",
            hint="use a CLIP-type backbone such as ViT-B-16-quickgelu/openai",
        )
    projection = text.text_projection
    return CausalTower(
        words=words,
        joint_dim=_joint_dim(projection, text.positional_embedding.shape[-1]),
        token_embedding=text.token_embedding,
        positional_embedding=text.positional_embedding,
        blocks=residual_blocks(text.transformer.resblocks),
        ln_final=text.ln_final,
        project=_projection(projection),
    )


def _unfit(text: Any) -> str | None:
    if missing := [part for part in _PARTS if not hasattr(text, part)]:
        return f"it has no {missing[0]}"
    if text.attn_mask is None or getattr(text, "cls_emb", None) is not None:
        return "it is not causal with an end-of-text token"
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if pool not in ("argmax", "eos"):
        return f"it pools by {pool!r}, not at the end-of-text token"
    return unfit_any(text.transformer.resblocks)


def _projection(projection: Any) -> Callable[[Tensor], Tensor]:
    if projection is None:
        return lambda x: x
    return projection if isinstance(projection, nn.Linear) else lambda x: x @ projection


def _joint_dim(projection: Any, width: int) -> int:
    if projection is None:
        return width
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[-1])
