"""Description files: what is read from them, and how damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.describe.material import line
from vlmprompt.describe.lines import Line, Sentence, dump_lines, parse_lines
from vlmprompt.errors import InputError

PATH = Path("prompts_cache/photos/a.jsonl")


def test_a_line_in_full() -> None:
    (found,) = parse_lines(f"\n{line(3, 'red_fox', 'a bushy tail', note='checked by me')}\n\n".encode(), PATH)
    assert (found.class_index, found.name, found.text, found.kind) == (3, "red_fox", "a bushy tail", "phrase")
    assert (found.provider, found.model, found.sample, found.source) == ("openai", "m-1", 0, "by hand")
    assert json.loads(found.dump()) == json.loads(line(3, "red_fox", "a bushy tail", note="checked by me"))


def test_the_least_that_a_line_needs() -> None:
    (found,) = parse_lines(b'{"class_index": 0, "class": "fox", "text": "a tail"}', PATH)
    assert (found.version, found.kind, found.provider) == (1, "phrase", "")
    assert not isinstance(found.description, Sentence)


def test_sentences_are_known_as_such() -> None:
    (found,) = parse_lines(line(0, "fox", "A fox is red.", kind="sentence").encode(), PATH)
    assert found.description == "A fox is red."
    assert isinstance(found.description, Sentence)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line(0, "fox", "a") + "\n" + line(1, "frog", "b")[:-9], "line 2 is torn: it is no whole JSON object"),
        (line(0, "fox", "a") + line(1, "frog", "b"), "line 1 is torn"),
        ("[1]", "line 1 is no JSON object"),
        (line(0, "fox", "a", schema=2), r"line 1 has schema 2, which this version does not know \(it reads 1\)"),
        (line(0, "fox", "a", schema="1"), "schema '1'"),
        (line(0, "fox", ""), "line 1 is wrong: text"),
        (line(0, "", "a"), "line 1 is wrong: class"),
        (line(-1, "fox", "a"), "line 1 is wrong: class_index"),
        ('{"class": "fox", "text": "a"}', "line 1 is wrong: class_index"),
        (
            line(0, "fox", "a") + "\n" + line(0, "frog", "b"),
            "claims class index 0 twice, for 'fox' and for 'frog'",
        ),
    ],
)
def test_damage_is_named_with_its_place(content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_lines(content.encode(), PATH)
    assert str(PATH) in caught.value.message
    assert caught.value.hint


def test_other_encodings_are_refused() -> None:
    with pytest.raises(InputError, match="is not UTF-8"):
        parse_lines("é".encode("latin-1"), PATH)


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            Line,
            class_index=st.integers(0, 5),
            name=st.just("fox"),
            text=st.text(st.characters(codec="utf-8"), min_size=1),
            sample=st.integers(0, 3),
        )
    )
)
def test_what_is_written_is_read(lines: list[Line]) -> None:
    """Whatever the text holds: U+2028 and the like are line breaks to Python, not to JSON Lines."""
    read = parse_lines(dump_lines(lines), PATH)
    assert sorted(read, key=repr) == sorted(lines, key=repr)
    assert [row.class_index for row in read] == sorted(row.class_index for row in lines)
    assert dump_lines(read) == dump_lines(lines)
