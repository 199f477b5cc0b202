"""What a token id stands for, as people read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WORD_STARTS = ("▁", "Ġ")  # of SentencePiece and of byte-level BPE
PIECE = "##"  # of WordPiece, before a piece that does not start a word
WORD_END = "</w>"  # of CLIP's BPE


def token_reader(tokenizer: Any) -> Callable[[int], str] | None:
    """How to read single ids of a tokenizer, see `Words.token`; None where it does not say.

    Args:
        tokenizer: open_clip's own, or its wrapper around one of transformers.
    """
    if hasattr(tokenizer, "decoder") and hasattr(tokenizer, "byte_decoder"):
        return lambda id_: _clip_token(tokenizer, id_)
    inner: Any = getattr(tokenizer, "tokenizer", None)
    if hasattr(inner, "convert_ids_to_tokens") and hasattr(inner, "convert_tokens_to_string"):
        second = (inner.tokenize("cat cat") or [""])[-1]
        return lambda id_: _hugging_face_token(inner, id_, marks_starts=second.startswith(WORD_STARTS))
    return None


def _clip_token(tokenizer: Any, id_: int) -> str:
    """Of CLIP's BPE, which marks the last piece of a word; pieces are written in a character for each byte."""
    piece: str | None = tokenizer.decoder.get(id_)
    if piece is None:
        return _nameless(id_)
    if piece.startswith("<") and piece.endswith(">") and not piece.endswith(WORD_END):
        return piece
    whole = piece.endswith(WORD_END)
    text = _bytes(tokenizer, piece.removesuffix(WORD_END))
    return text if whole else f"{text}-"


def _bytes(tokenizer: Any, piece: str) -> str:
    return bytearray(tokenizer.byte_decoder[character] for character in piece).decode("utf-8", errors="replace")


def _hugging_face_token(tokenizer: Any, id_: int, *, marks_starts: bool) -> str:
    piece: str | None = tokenizer.convert_ids_to_tokens(id_)
    if piece is None:
        return _nameless(id_)
    if piece in tokenizer.all_special_tokens:
        return piece
    if piece.startswith(PIECE):
        return f"-{piece.removeprefix(PIECE)}"
    text: str = tokenizer.convert_tokens_to_string([piece]).strip() or piece
    return text if piece.startswith(WORD_STARTS) or not marks_starts else f"-{text}"


def _nameless(id_: int) -> str:
    return f"token {id_}"
