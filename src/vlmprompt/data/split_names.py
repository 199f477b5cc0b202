"""What a split is called: one rule for folders, lists, shards and tables.

A name is a split's if it consists of one word that says so (below), of words that say nothing ("set", "images", ...)
and of numbers: train, Training, seg_train, training_set, train2017, "Test Images", ValData. One more word makes it a
name of something else: train_station, test_tube and dev_board are no splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from vlmprompt.errors import InputError

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


def said_split(file: PurePosixPath) -> str:
    """The split that a file of many images says by its path: train, val, test, or nothing; see `split_word`."""
    return split_named(split_word(file)) or ""


def split_word(file: PurePosixPath) -> str:
    """The word of a path that says a split: the name of one of its folders, or else a word of the file's name.

    Args:
        file: relative to the data set's folder.

    Returns:
        The first such word as it is written, such as "Validation"; nothing if there is none.

    Raises:
        InputError: words say several splits.
    """
    for words in (file.parts[:-1], _words_of_file(file)):
        said = [word for word in words if split_named(word)]
        splits = list(dict.fromkeys(map(split_named, said)))
        if len(splits) > 1:
            raise InputError(
                f"{file} says {' and '.join(map(str, splits))} by its name",
                hint="put it into the folder train, val or test",
            )
        if said:
            return said[0]
    return ""


def _words_of_file(file: PurePosixPath) -> list[str]:
    """The whole name if it is a split's, else its words but for those that may mean something else: "dev_board-0"."""
    stem = file.name.partition(".")[0]
    if split_named(stem):
        return [stem]
    return [word for word in re.split(r"[^A-Za-z]+", stem) if word.lower() not in ("dev", "eval", "evaluation")]


def looks_like_splits(names: Iterable[str]) -> bool:
    """Whether names look like splits rather than classes, which is something to ask about.

    They do if two are the names of different splits, whatever else is there, or if they are alike but for a word that
    says a split, "my_train" and "my_test": every name has such a word then, and two that say different splits have
    the same rest.
    """
    names = list(names)
    if len({split_named(name) for name in names} - {None}) > 1:
        return True
    rests: dict[str, set[str]] = {}
    for name in names:
        parted = [_parted(word) for word in _words(name)]
        said = [split for split, _ in parted if split]
        if len(said) != 1:
            return False
        rests.setdefault(" ".join(rest for _, rest in parted if rest), set()).update(said)
    return any(len(splits) > 1 for splits in rests.values())


def split_within(name: str) -> str | None:
    """The split of the only word that says one, among whatever others: "is_valid" says val."""
    said = [WORDS[word] for word in _words(name) if word in WORDS]
    return said[0] if len(said) == 1 else None


def _words(name: str) -> list[str]:
    """The words of a name, in lower case; digits and signs part them, and a capital within a word does."""
    return [word.lower() for word in _WORD.findall(name)] if _WORD.sub("", name).isascii() else [name]


def _parts(word: str) -> tuple[str, ...]:
    """A split's word and a filler written as one: "trainset"."""
    match = _RUN_TOGETHER.fullmatch(word)
    return (word,) if match is None else match.groups()


def _parted(word: str) -> tuple[str, str]:
    """The split that a word says, and what else is in it: "trainb" says train, and b."""
    if word in WORDS:
        return WORDS[word], ""
    if len(word) > 2 and word[:-1] in WORDS:
        return WORDS[word[:-1]], word[-1]
    return "", word
