"""Words that may serve as negative labels: read from a list, or from WordNet's index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vlmprompt.api import InputError
from vlmprompt_adapters.config.neglabel import WHERE

ADJECTIVES = "[adjectives]"
DEMO = "demo"


class Words(NamedTuple):
    """Candidates by their part of speech, each once; a word that is both is a noun."""

    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]


def read_words(where: str) -> Words:
    """The words of a file, of a folder of WordNet, or the few that come along.

    Raises:
        InputError: there is no such file, it is no text, or it holds no words; the hint says what to give.
    """
    path = Path(__file__).with_name("words.txt") if where == DEMO else Path(where)
    if path.is_dir():
        nouns, adjectives = (_lemmas(path / f"index.{part}") for part in ("noun", "adj"))
    else:
        lines = _lines(path)
        at = lines.index(ADJECTIVES) if ADJECTIVES in lines else len(lines)
        nouns, adjectives = lines[:at], lines[at + 1 :]
    seen = dict.fromkeys(nouns)
    words = Words(tuple(seen), tuple(word for word in dict.fromkeys(adjectives) if word not in seen))
    if not any(words):
        raise InputError(f"{path} holds no words", hint=f"give {WHERE}")
    return words


def _lines(path: Path) -> list[str]:
    """The lines of a text without empty ones and such as begin with #."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"cannot read negative labels from {path}: {reason}", hint=f"give {WHERE}") from error
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _lemmas(path: Path) -> Iterable[str]:
    """The words of an index of WordNet; lines of its licence begin with spaces."""
    if not path.exists():
        raise InputError(f"there is no {path.name} in {path.parent}", hint=f"give {WHERE}")
    text = path.read_text(encoding="utf-8")
    return (line.split(" ", 1)[0].replace("_", " ") for line in text.splitlines() if not line.startswith(" "))
