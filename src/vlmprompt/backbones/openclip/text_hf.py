"""Text encoders of Hugging Face in open_clip's wrapper `HFTextEncoder`; they need transformers, the extra `hf-text`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlmprompt.backbones.openclip.tokens import MOST_TOKENS
from vlmprompt.backbones.text.tower import Words
from vlmprompt.backbones.text.whole import Texts, WholeTower
from vlmprompt.errors import CapabilityError


def hugging_face_tower(text: Any, words: Words, name: str) -> WholeTower:
    """A tower that runs the encoder on embeddings; its own mask hides pads, so texts are as long as they need be.

    Args:
        text: `HFTextEncoder`: `transformer`, `pooler`, `proj` and `config`.
        name: of the backbone, for errors.

    Raises:
        CapabilityError: the tokenizer does not pad as the encoder's mask supposes.
    """
    if text.config.pad_token_id != words.pad:
        raise CapabilityError(
            f"the text tower of backbone {name!r} hides the token {text.config.pad_token_id}, its tokenizer pads with "
            f"{words.pad}",
            hint="use the tokenizer that belongs to the encoder",
        )
    embedding = text.transformer.get_input_embeddings()

    def run(texts: Texts) -> Tensor:
        mask_QT = texts.real_QT.long()
        hidden = text.transformer(inputs_embeds=texts.x_QTD, attention_mask=mask_QT)
        return text.proj(text.pooler(hidden, mask_QT))

    return WholeTower(
        words=words,
        embedding=embedding,
        run=run,
        width=embedding.embedding_dim,
        joint_dim=text.output_dim,
        context_length=_context_length(text, words),
        device=embedding.weight.device,
        kind=f"{text.config.model_type} of Hugging Face, pads hidden, {_pooler(text.pooler)}",
    )


def _context_length(text: Any, words: Words) -> int:
    """Of the tokenizer, and of the encoder where it has a table of positions; RoBERTa's begin behind its pad's id."""
    table = getattr(getattr(text.transformer, "embeddings", None), "position_embeddings", None)
    positions = (
        [] if table is None else [table.num_embeddings - 1 - (-1 if table.padding_idx is None else table.padding_idx)]
    )
    limits = positions if words.longest is None else [words.longest, *positions]
    return min(limits, default=MOST_TOKENS)


def _pooler(pooler: Any) -> str:
    return {"MeanPooler": "mean of all tokens"}.get(type(pooler).__name__, "read at the first token")
