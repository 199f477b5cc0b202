"""Which other class a text names: as one regular expression of all names finds it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from vlmprompt.describe.lines import written
from vlmprompt.describe.naming import OtherNames

WORDS = ("fox", "foxes", "foxs", "es", "s", "box", "boxe", "owl", "-owl", "d'owl", "c++", "+", "é", "a_b", "Owl")
TEXTS = st.lists(st.sampled_from((*WORDS, "owls", "boxes", "c++s", "+es", ".", "foxy")), max_size=8).flatmap(
    lambda words: st.sampled_from((" ", "", ", ", "-")).map(lambda between: between.join(words))
)
NAMES = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=6, unique_by=written
)


def by_expression(names: Sequence[str], text: str, index: int) -> str | None:
    """Tries every name at every place."""
    spelt = {written(name): name for name in names}
    every = "|".join(re.escape(name) for name in sorted(spelt, key=len, reverse=True))
    own = f" {written(names[index])} "
    found = re.finditer(rf"(?<!\w)({every})(?:e?s)?(?!\w)", written(text))
    return next((spelt[match[1]] for match in found if f" {match[1]} " not in own), None)


@given(NAMES, TEXTS, st.integers(0, 5))
def test_any_names_in_any_text(names: list[str], text: str, index: int) -> None:
    index %= len(names)
    assert OtherNames(names).named_in(text, index) == by_expression(names, text, index)


def test_names_that_begin_alike() -> None:
    names = ("great white shark", "great", "great white", "sharks tooth", "shark")
    others = OtherNames(names)
    assert others.named_in("a Great White", 4) == "great white"
    assert others.named_in("Great  white sharks", 1) == "great white shark"
    assert others.named_in("sharks tooth", 4) == "sharks tooth"
    assert others.named_in("sharks", 3) == "shark"
    assert others.named_in("greatness", 4) is None
