"""What a split is called: one rule for folders, lists, shards and tables.

A name is a split's if it consists of one word that says so (below), of words that say nothing ("set", "images", ...)
and of numbers: train, Training, seg_train, training_set, train2017, "Test Images", ValData. One more word makes it a
name of something else: train_station, test_tube and dev_board are no splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WORDS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
FILLERS = frozenset(
    ("set", "sets", "seg", "split", "splits", "data", "dataset", "datasets")
    + ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pic", "pics")
    + ("file", "files", "folder", "sample", "samples")
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_RUN_TOGETHER = re.compile(f"({'|'.join(sorted(WORDS, key=len, reverse=True))})({'|'.join(sorted(FILLERS))})")


def split_named(name: str) -> str | None:
    """ "train", "val" or "test" if the name is one of a split, else None."""
    words = [part for word in _words(name) for part in _parts(word)]
    said = [WORDS[word] for word in words if word in WORDS]
    return said[0] if len(said) == 1 and all(word in WORDS or word in FILLERS for word in words) else None


def looks_like_splits(names: Iterable[str]) -> bool:
    """Whether every name has a split's word in it, and not all of them the same: something to ask about."""
    said = [{split for word, split in WORDS.items() if _has(name, word)} for name in names]
    return all(said) and len(set.union(set(), *said)) > 1


def _words(name: str) -> list[str]:
    """The words of a name, in lower case; digits and signs part them, and a capital within a word does."""
    return [word.lower() for word in _WORD.findall(name)] if _WORD.sub("", name).isascii() else [name]


def _parts(word: str) -> tuple[str, ...]:
    """A split's word and a filler written as one: "trainset"."""
    match = _RUN_TOGETHER.fullmatch(word)
    return (word,) if match is None else match.groups()


def _has(name: str, word: str) -> bool:
    """Whether a word stands at the start of one of the name's words, or is one: "trainA", "my_test"."""
    return any(part == word or (len(word) > 3 and part.startswith(word)) for part in _words(name))
