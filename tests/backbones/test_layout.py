"""How classes are put into chunks."""

from __future__ import annotations

import torch

from vlmprompt.backbones.text.layout import Assembly, Frame, build_layout
from vlmprompt.backbones.types import ClassTokens

LENGTHS = [9, 2, 2, 2, 2, 2, 2, 2]
CLASSES = ClassTokens(
    tuple(map(str, range(8))), tuple(tuple(range(10, 10 + n)) for n in LENGTHS), tuple((1,) for _ in LENGTHS)
)
ASSEMBLY = Assembly(0, (), "end", per_class=False)
HERE = torch.device("cpu")


def sizes(frame: Frame, most_tokens: int) -> list[tuple[int, int]]:
    """Classes and tokens of each chunk."""
    layout = build_layout(CLASSES, ASSEMBLY, frame, chunk="auto", most_tokens=most_tokens, device=HERE)
    return [(len(part.labels), len(part.ids_T)) for part in layout.chunks]


def test_texts_padded_to_the_longest_count_as_long() -> None:
    assert sizes(Frame((), 20, "longest"), 20) == [(2, 20), (6, 18)]
    assert sizes(Frame((), 20, "limit"), 40) == [(2, 40)] * 4
    assert sizes(Frame((), 20), 20) == [(4, 19), (4, 12)]


def test_pads_and_final_ids_fill_a_text() -> None:
    frame = Frame((5,), 8, "limit", pad=7, final=(6,))
    classes = ClassTokens(("a", "b"), ((10,), (11, 12)), ((1,), (1,)))
    (part,) = build_layout(classes, ASSEMBLY, frame, chunk="auto", most_tokens=100, device=HERE).chunks
    rows = dict(zip(part.labels, part.ids_T.view(2, 8).tolist(), strict=True))
    assert rows == {0: [5, 10, 1, 7, 7, 7, 7, 6], 1: [5, 11, 12, 1, 7, 7, 7, 6]}
    assert dict(zip(part.labels, part.ends_K.tolist(), strict=True)) == {1: 3, 0: 8 + 2}
