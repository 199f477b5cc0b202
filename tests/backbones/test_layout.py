"""How classes are put into chunks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from vlmprompt.backbones.text.layout import Assembly, ClassToken, Frame, build_layout
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


def _of_lengths(lengths: Sequence[int]) -> ClassTokens:
    """Classes whose names have so many tokens."""
    names = tuple(map(str, range(len(lengths))))
    return ClassTokens(names, tuple(tuple(range(10, 10 + n)) for n in lengths), tuple((1,) for _ in lengths))


@pytest.mark.parametrize("token", [None, ClassToken(99, shifted=True)])
def test_what_is_made_of_chunks_does_not_grow_with_the_classes(token: ClassToken | None) -> None:
    """Chunks of equal lengths share it: there are as many as lengths, and where two of them meet."""
    frame = Frame((5,), 20, class_token=token)
    found = []
    for n in (20, 100):
        classes = _of_lengths([2, 3, 4] * n)
        chunks = build_layout(classes, ASSEMBLY, frame, chunk="auto", most_tokens=40, device=HERE).chunks
        found.append(len({id(part.runs) for part in chunks}))
        assert len(chunks) > n / 4
        for part in chunks:
            assert part.runs.groups[-1].stop == len(part.ids_T)
            assert torch.cat([group.last_K for group in part.runs.groups]).tolist() == part.ends_K.tolist()
    assert found[0] == found[1] <= 6


def test_hidden_tokens_are_those_of_their_own_chunk() -> None:
    """An id that is the pad's hides what stands behind it, so that chunks of equal lengths differ in it."""
    frame = Frame((5,), 20, class_token=ClassToken(99, shifted=True))
    classes = ClassTokens(tuple("abcd"), ((10, 11), (10, 11), (10, 0), (0, 11)), ((1,),) * 4)
    chunks = build_layout(classes, ASSEMBLY, frame, chunk=1, most_tokens=1, device=HERE).chunks
    by_label = {part.labels[0]: part.runs for part in chunks}
    assert by_label[0] is by_label[1]
    hidden = {
        k: None if runs.hidden_T is None else runs.hidden_T.isinf().nonzero().flatten().tolist()
        for k, runs in by_label.items()
    }
    assert hidden == {0: None, 1: None, 2: [3], 3: [2]}
