"""Which kind of text tower a model has: by its mask and by what is read, never by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vlmprompt.backbones.openclip.blocks import residual_blocks, unfit_any
from vlmprompt.backbones.openclip.text_hf import hugging_face_tower
from vlmprompt.backbones.text.causal import CausalTower
from vlmprompt.backbones.text.layout import ClassToken
from vlmprompt.backbones.text.tower import TextTower, Words
from vlmprompt.backbones.text.whole import OwnTransformer, WholeTower
from vlmprompt.errors import CapabilityError

_PARTS = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
_READS: dict[str, Literal["first", "last", "end"]] = {"first": "first", "last": "last", "argmax": "end", "eos": "end"}


def text_tower(model: Any, words: Words, name: str) -> TextTower:
    """The text side of a `CLIP` (its own attributes), a `CustomTextCLIP` or a `CoCa` (`model.text`).

    Args:
        name: of the backbone, for errors.

    Raises:
        CapabilityError: a tower that no engine can run; says why.
    """
    text = getattr(model, "text", model)
    if hasattr(text, "pooler") and hasattr(text, "config"):
        return hugging_face_tower(text, words, name)
    if (reason := _unfit(text, words)) is not None:
        raise CapabilityError(
            f"the text tower of backbone {name!r} cannot take learned prompts: {reason}",
            hint="use a CLIP-type backbone such as ViT-B-16-quickgelu/openai",
        )
    has_class_token = getattr(text, "cls_emb", None) is not None
    if text.attn_mask is not None and (has_class_token or _READS[_pool(text)] == "end"):
        return _causal(text, words)
    return _whole(text, words)


def _causal(text: Any, words: Words) -> CausalTower:
    class_embedding = getattr(text, "cls_emb", None)
    shifted = not getattr(text, "correct_cls_mask", False)
    return CausalTower(
        words=words,
        joint_dim=_joint_dim(text),
        token_embedding=text.token_embedding,
        positional_embedding=text.positional_embedding,
        blocks=residual_blocks(text.transformer.resblocks),
        ln_final=text.ln_final,
        project=_projection(text.text_projection),
        class_token=None if class_embedding is None else ClassToken(text.token_embedding.num_embeddings, shifted),
        class_embedding=class_embedding,
    )


def _whole(text: Any, words: Words) -> WholeTower:
    causal, hides_pads, reads = text.attn_mask is not None, getattr(text, "use_pad_mask", False), _READS[_pool(text)]
    transformer = OwnTransformer(
        positional_embedding=text.positional_embedding,
        blocks=residual_blocks(text.transformer.resblocks),
        ln_final=text.ln_final,
        project=_projection(text.text_projection),
        reads=reads,
        causal=causal,
        hides_pads=hides_pads,
    )
    positions, width = text.positional_embedding.shape
    place = {"first": "first position", "last": "last position", "end": "end token"}[reads]
    pads = "pads hidden" if hides_pads else "pads seen"
    return WholeTower(
        words=words,
        embedding=text.token_embedding,
        run=transformer,
        width=width,
        joint_dim=_joint_dim(text),
        context_length=positions if words.longest is None else min(positions, words.longest),
        device=text.positional_embedding.device,
        layers=len(transformer.blocks),
        blocks=transformer.blocks,
        fill="limit",
        kind=f"{'causal' if causal else 'bidirectional'}, {pads}, read at the {place}",
    )


def _unfit(text: Any, words: Words) -> str | None:
    if missing := [part for part in _PARTS if not hasattr(text, part)]:
        return f"it has no {missing[0]}"
    has_class_token = getattr(text, "cls_emb", None) is not None
    if text.attn_mask is None and has_class_token:
        return "it has a class token behind a text that is not causal"
    if text.attn_mask is not None and not _is_causal(text.attn_mask):
        return "its mask is not the causal one"
    if not has_class_token:
        if _pool(text) not in _READS:
            return f"it pools by {_pool(text)!r}"
        if text.attn_mask is not None and _READS[_pool(text)] == "first":
            return "it reads at the first position, which sees nothing of what follows"
        if _READS[_pool(text)] == "end" and (reason := _no_end(text, words)) is not None:
            return reason
    if getattr(text, "use_pad_mask", False) and text.pad_id != words.pad:
        return f"it hides the token {text.pad_id}, its tokenizer pads with {words.pad}"
    return unfit_any(text.transformer.resblocks)


def _no_end(text: Any, words: Words) -> str | None:
    """Why the tokenizer's end token is not where the tower reads."""
    if not words.end:
        return "it reads at an end-of-text token, and its tokenizer writes none"
    if _pool(text) == "eos":
        wanted = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        return None if wanted == words.end[-1] else f"it reads at token {wanted}, its tokenizer ends with {words.end}"
    ids = [*words.start, *words.ids("a photo of a cat"), *words.end, words.pad]
    return None if ids.index(max(ids)) == len(ids) - 2 else "it reads at the highest token, which does not end a text"


def _pool(text: Any) -> str:
    return str(getattr(text, "text_pool_type", getattr(text, "pool_type", None)))


def _is_causal(mask: Tensor) -> bool:
    return torch.equal(mask == 0, torch.ones_like(mask, dtype=torch.bool).tril())


def _projection(projection: Any) -> Callable[[Tensor], Tensor]:
    if projection is None:
        return lambda x: x
    return projection if isinstance(projection, nn.Linear) else lambda x: x @ projection


def _joint_dim(text: Any) -> int:
    projection = text.text_projection
    if projection is None:
        return int(text.positional_embedding.shape[-1])
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[-1])
