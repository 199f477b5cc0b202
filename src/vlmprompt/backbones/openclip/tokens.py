"""open_clip's tokenizers: what they put around a text, and the bare tokens of one."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import open_clip

from vlmprompt.backbones.text.tower import Words


def bpe_tokenizer() -> Any:
    """OpenAI's BPE tokenizer, whose vocabulary is in the open_clip package."""
    return open_clip.SimpleTokenizer()


def count_tokens(text: str) -> int:
    """Tokens of a text for CLIP's text towers, start and end included."""
    return len(_clip_tokenizer().encode(text)) + 2


def words_of(tokenizer: Any, known_ids: frozenset[int] | None = None) -> Words:
    """How a tokenizer reads texts.

    Args:
        tokenizer: an object with `encode` and `sot_token_id`, or a callable on a list of texts.
        known_ids: tokens that the text tower was trained on; None: as good as all.
    """
    start, end = (_special(tokenizer, kind) for kind in ("sot", "eot"))
    return Words(partial(_bare_ids, tokenizer), (start,), (end,), known=known_ids)


@cache
def _clip_tokenizer() -> Any:
    return bpe_tokenizer()


def _special(tokenizer: Any, kind: str) -> int:
    """Id of the start or end token: an attribute, or what the tokenizer puts around an empty text."""
    known = getattr(tokenizer, f"{kind}_token_id", None)
    if known is not None:
        return int(known)
    ids = tokenizer([""])[0]
    return int(ids[0] if kind == "sot" else ids[1])


def _bare_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids without start, end and padding."""
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "sot_token_id"):
        return list(tokenizer.encode(text))
    ids = tokenizer([text])[0].tolist()
    return list(ids[1 : ids.index(_special(tokenizer, "eot"))])
