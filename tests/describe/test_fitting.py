"""Descriptions cut to what a text tower reads: the longest beginning, with few looks at tokens."""

from __future__ import annotations

import re

import pytest

from vlmprompt.backbones.openclip.tokens import count_tokens
from vlmprompt.cli.describe_classes import _shortened
from vlmprompt.describe.fitting import shortened


class Tower:
    """Reads so many tokens: a token is up to four letters of a word. Counts what it is asked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[int] = []

    def fits(self, text: str) -> bool:
        self.asked.append(len(text))
        return len(re.findall(r"\S{1,4}", text)) <= self.most


@pytest.mark.parametrize("words", [3, 40, 41, 1000, 200_000])
def test_few_looks_at_little_text(words: int) -> None:
    """Of any length: some twenty looks, none at more than the next powers of two of what fits."""
    tower = Tower(40)
    text = " ".join(["tail"] * words)
    assert shortened(text, tower.fits) == " ".join(["tail"] * min(words, 40))
    assert len(tower.asked) <= 20
    assert max(tower.asked) <= 1024


def test_one_word_without_end() -> None:
    tower = Tower(40)
    assert shortened("x" * 1_000_000, tower.fits) == "x" * 160
    assert len(tower.asked) <= 24 and max(tower.asked) <= 1024


@pytest.mark.parametrize("most", range(1, 60))
def test_the_longest_beginning_of_whole_words(most: int) -> None:
    """As a search from the end finds it."""
    text = "a very long, winding and extraordinarily unpronounceable tail; " * 9
    words = text.strip().split(" ")
    found = shortened(text.strip(), Tower(most).fits)
    while words and not Tower(most).fits(" ".join(words)):
        words.pop()
    assert found == (" ".join(words).rstrip(" ,;:") or "a")
    assert shortened(found, Tower(most).fits) == found


@pytest.mark.parametrize("text", ["a bushy tail " * 200, "tail" * 500, "\u72d0" * 900, "&amp; " * 400, "a-" * 600])
@pytest.mark.parametrize("name", ["red fox", "the longest name of a fox that anybody has ever heard of " * 9])
def test_with_clips_own_tokens(text: str, name: str) -> None:
    """What is left fits behind the name; where the name alone fills the tower, as if it stood alone."""
    cut = _shortened(text.strip(), name, False)
    behind = f"{name}, which has {cut}" if name == "red fox" else cut
    assert cut and text.startswith(cut) and count_tokens(behind) <= 77
    assert _shortened(cut, name, False) == cut
