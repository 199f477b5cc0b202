"""open_clip's tokenizers: what they put around a text, and the bare tokens of one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from vlmprompt.backbones.openclip.readable import token_reader
from vlmprompt.backbones.text.tower import Words
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.installed import package_folder

PROBE = "a photo of a cat"
MOST_TOKENS = 4096  # of a text; no tower reads nearly as many


@cache
def bpe_tokenizer() -> Any:
    """OpenAI's BPE tokenizer, whose code and vocabulary are in the open_clip package.

    Of the package only this file is run: to import all of it takes as long as to import torch.
    """
    file = package_folder("open_clip") / "tokenizer.py"
    spec = spec_from_file_location(f"{__package__}.clip_tokenizer", file)
    assert spec is not None and spec.loader is not None  # it is a Python file
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    own = getattr(module, "_tokenizer", None)  # made as the file runs; another would take as long again
    return own if isinstance(own, module.SimpleTokenizer) else module.SimpleTokenizer()


def count_tokens(text: str) -> int:
    """Tokens of a text for CLIP's text towers, start and end included."""
    return len(bpe_tokenizer().encode(text)) + 2


def words_of(tokenizer: Any, known_ids: frozenset[int] | None = None) -> Words:
    """How a tokenizer reads texts.

    Args:
        tokenizer: one of open_clip's, or any callable on a list of texts that returns rows of ids of one length.
        known_ids: tokens that the text tower was trained on; None: as good as all.

    Raises:
        CapabilityError: its rows are not made of start, text, end and pads.
    """
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "sot_token_id"):
        start, end = (int(getattr(tokenizer, f"{kind}_token_id")) for kind in ("sot", "eot"))
        longest = getattr(tokenizer, "context_length", None)
        return Words(
            lambda text: list(tokenizer.encode(text)),
            (start,),
            (end,),
            longest=longest,
            known=known_ids,
            token=token_reader(tokenizer),
        )
    rows = _Rows(tokenizer)
    if not rows.are_framed():
        raise CapabilityError(
            "the tokenizer does not put start, text, end and pads in a row, in this order",
            hint="a tokenizer that pads on the right",
        )
    return Words(rows.bare, rows.start, rows.end, rows.pad, rows.final, rows.length, known_ids, token_reader(tokenizer))


class _Rows:
    """What is around the texts of a tokenizer of which nothing is known but the rows that it returns.

    A row of an empty text shows start, end and pads, one of a long text what is kept at the end of a row that is full.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._any_length = "context_length" in inspect.signature(tokenizer).parameters
        empty = self._row("")
        self.length = len(empty)
        # A token behind the pads is one that differs from the last pad.
        self.final = tuple(empty[-1:]) if empty[-1] != empty[-2] else ()
        self.pad = empty[-1 - len(self.final)]
        self.start = tuple(_common(empty, self._row("cat")))
        inner = empty[len(self.start) : len(empty) - len(self.final)]
        full = self._row("cat " * 2 * self.length)
        full = full[: len(full) - len(self.final)]
        lengths = range(min(len(inner), len(full)), 0, -1)
        self.end: tuple[int, ...] = next((tuple(inner[:n]) for n in lengths if inner[:n] == full[-n:]), ())

    def bare(self, text: str) -> list[int]:
        """Ids of a text without start, end and padding.

        Raises:
            InputError: the tokenizer cuts it.
        """
        length = 2 * self.length
        while not self._has_room(row := self._row(text, length)):
            if not self._any_length or length > MOST_TOKENS:
                raise InputError(
                    f"{text[:60]!r} is longer than the {self.length} tokens that the text tower reads",
                    hint="shorten it",
                )
            length *= 2
        return self._stripped(row)

    def are_framed(self) -> bool:
        """Whether the parts put together again are the row."""
        ids = [*self.start, *self._stripped(self._row(PROBE)), *self.end]
        pads = [self.pad] * (self.length - len(ids) - len(self.final))
        return [*ids, *pads, *self.final] == self._row(PROBE)

    def _row(self, text: str, length: int | None = None) -> list[int]:
        more = {"context_length": length} if self._any_length and length is not None else {}
        ids: list[int] = self._tokenizer([text], **more)[0].tolist()
        return ids

    def _has_room(self, row: Sequence[int]) -> bool:
        """Whether a row ends in more pads than a cut one could, whose end may be a pad's id as well."""
        n_final = len(self.final)
        room = row[len(row) - n_final - len(self.end) - 1 : len(row) - n_final]
        return all(token == self.pad for token in room)

    def _stripped(self, row: Sequence[int]) -> list[int]:
        ids = list(row[len(self.start) : len(row) - len(self.final)])
        while ids and ids[-1] == self.pad:
            ids.pop()
        n_end = len(self.end)
        return ids[: len(ids) - n_end] if n_end and tuple(ids[-n_end:]) == self.end else ids


def _common(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """What two rows begin with alike."""
    n = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return list(one[:n])
