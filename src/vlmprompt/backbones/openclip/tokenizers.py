"""Tokenizers of open_clip's architectures; one that stands in where towers of random weights have none at hand."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import get_clean_fn
from torch import Tensor

from vlmprompt.backbones.weights.hub import fetched
from vlmprompt.errors import InputError

_PIECE = re.compile(r"\w{1,6}|[^\w\s]")  # about as long as those that are learnt
_FIRST_WORD = 300  # ids below are kept for special tokens


@dataclass(frozen=True)
class _Family:
    """What tokenizers of a kind put around a text.

    Attributes:
        name: pattern of the names of its repositories.
        start, end: ids in front of every text and behind it.
        pad: id that fills it up.
        vocabulary: number of ids, where open_clip's description does not say.
    """

    name: str
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    vocabulary: int


# As their own files have it; the first that matches counts.
_FAMILIES = (
    _Family("siglip2", (), (1,), 0, 256000),
    _Family("siglip", (), (1,), 1, 32000),
    _Family("xlm-v", (0,), (2,), 1, 901629),
    _Family("xlm-roberta", (0,), (2,), 1, 250002),
    _Family("roberta", (0,), (2,), 1, 50265),
    _Family("nllb", (256047,), (2,), 1, 256001),  # starts with English; languages' ids lie above the words'
    _Family("mt5", (), (1,), 0, 250100),
    _Family("biomednlp|pubmedbert", (2,), (3,), 0, 30522),
    _Family("bert", (101,), (102,), 0, 30522),
)


@dataclass(frozen=True)
class StandInTokenizer:
    """Numbers for words, in place of a tokenizer's own: the same length, special tokens and vocabulary size.

    Good enough for towers of random weights, to which no word means anything; equal words get equal numbers.

    Attributes:
        name: of the tokenizer that it stands for.
        context_length: longest text in tokens, special ones included.
        vocabulary: number of ids.
        start, end: ids in front of every text and behind it; either may be empty.
        pad: id that fills a text up.
        clean: what the tokenizer does to a text first.
    """

    name: str
    context_length: int
    vocabulary: int
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    clean: Callable[[str], str]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start, end and padding."""
        words = self.vocabulary - _FIRST_WORD
        return [_FIRST_WORD + zlib.crc32(piece.encode()) % words for piece in _PIECE.findall(self.clean(text))]

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Ids (n, context length) of texts, cut where they are too long, as open_clip's tokenizers give them."""
        length = context_length or self.context_length
        listed = [texts] if isinstance(texts, str) else texts
        ids_nT = torch.full((len(listed), length), self.pad, dtype=torch.long)
        for row, text in zip(ids_nT, listed, strict=True):
            room = length - len(self.start) - len(self.end)
            ids = [*self.start, *self.encode(text)[:room], *self.end]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return ids_nT


def tokenizer_of(architecture: str) -> Any:
    """The tokenizer of an architecture, or of `hf-hub:<repository>` and `local-dir:<folder>`.

    Raises:
        InputError: it cannot be had; says what is missing and where it is had.
    """
    name = _downloaded(architecture)
    thing = f"tokenizer {name!r} of {architecture}" if name else f"the tokenizer of {architecture}"
    try:
        return fetched(thing, partial(open_clip.get_tokenizer, architecture))
    except InputError as error:
        if name is None or "pip install" in str(error.hint):
            raise
        hint = f"get it where there is a network: 'hf download {name}' (from https://huggingface.co/{name})"
        raise InputError(error.message, hint=hint) from error


def tokenizer_or_stand_in(architecture: str) -> Any:
    """The tokenizer of an architecture for towers of random weights: where it cannot be had, one stands in for it.

    Raises:
        InputError: it cannot be had, and is of an unknown kind.
    """
    try:
        return tokenizer_of(architecture)
    except InputError as error:
        stand_in = stand_in_for(architecture)
        if stand_in is None:
            raise
        warnings.warn(f"{error.message}: numbers stand in for its words, as the weights are random", stacklevel=2)
        return stand_in


def stand_in_for(architecture: str) -> StandInTokenizer | None:
    """What stands in for an architecture's tokenizer; None where it needs none, or its kind is unknown."""
    name, text = _downloaded(architecture), _text_config(architecture)
    family = next((f for f in _FAMILIES if name and re.search(f.name, name.lower())), None)
    if name is None or family is None:
        return None
    settings = text.get("tokenizer_kwargs") or {}
    return StandInTokenizer(
        name=name,
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        vocabulary=min(text.get("vocab_size") or family.vocabulary, family.vocabulary),
        start=family.start,
        end=() if settings.get("strip_sep_token") else family.end,
        pad=family.pad,
        clean=get_clean_fn(settings.get("clean", "whitespace")),
    )


def _downloaded(architecture: str) -> str | None:
    """The repository of an architecture's tokenizer; None where the open_clip package holds it."""
    name: str | None = _text_config(architecture).get("hf_tokenizer_name") or None
    return name


def _text_config(architecture: str) -> Mapping[str, Any]:
    if architecture not in open_clip.list_models():
        return {}
    return (open_clip.get_model_config(architecture) or {}).get("text_cfg") or {}
