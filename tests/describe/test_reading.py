"""From what models write to lists of descriptions."""

from __future__ import annotations

import json
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmprompt.describe.lines import Kind
from vlmprompt.describe.provider import AnswerError, Reply
from vlmprompt.describe.reading import clean, distinct, read, read_reply

TWO = ["a bushy tail", "orange fur"]


@pytest.mark.parametrize(
    "text",
    [
        '{"descriptions": ["a bushy tail", "orange fur"]}',
        '["a bushy tail", "orange fur"]',
        '{"class": "red fox", "features": ["a bushy tail", "orange fur"]}',
        '[{"feature": "a bushy tail"}, {"feature": "orange fur"}]',
        '```json\n{"descriptions": ["a bushy tail", "orange fur"]}\n```',
        'Here you are:\n```json\n{"descriptions": ["a bushy tail", "orange fur"]}\n```\nAnything else?',
        'Sure!\n{"descriptions": ["a bushy tail", "orange fur"]}',
        "- a bushy tail\n- orange fur",
        "a bushy tail\n- orange fur",
        " a bushy tail\n- orange fur\n\nLet me know if you need more.",
        "1. a bushy tail\n2. orange fur",
        "1) a bushy tail;\n2) orange fur.",
        "(1) a bushy tail\n(2) orange fur",
        "[1] a bushy tail\n[2] orange fur",
        "a) a bushy tail\nb) orange fur",
        "Useful features of a red fox:\n\n* **a bushy tail**\n* orange fur,\n",
        "Useful features are:\na bushy tail\norange fur",
        "• “a bushy tail”\n• 'orange fur'",
        "— a bushy tail\n— orange fur",
        "a bushy tail\r\norange fur\r\n",
        "a bushy tail, orange fur",
        "a bushy tail; orange fur.",
        "Answer: a bushy tail, and orange fur",
        "a bushy tail - orange fur",
        "- a bushy tail\n- A bushy tail\n- orange fur\n-\n- ",
        "- 1. a bushy tail\n- 2. orange fur",
        "1. - a bushy tail\n2. * orange fur",
        "<think>What has it?\n- a nose</think>\n- a bushy tail\n- orange fur",
        '["a bushy tail", "None", "orange fur", "N/A"]',
        "Sure! Here are some features of it\n- a bushy tail\n- orange fur",
        "Sure, here are some features\n- a bushy tail\n- orange fur",
        "Certainly! Here is what tells a red fox in a photo\na bushy tail\norange fur\nLet me know if you need more!",
        "Of course: a bushy tail, orange fur",
        "Feature 1: a bushy tail\nFeature 2: orange fur",
        "1) a bushy tail 2) orange fur",
        "1. a bushy tail, 2. orange fur",
        "**Red fox features**\n\na bushy tail\norange fur",
        "# Red fox features\n\n- a bushy tail\n- orange fur",
        "**a bushy tail**\n**orange fur**",
        "assistant\n- a bushy tail\n- orange fur",
        "assistant: a bushy tail, orange fur",
        "- feature: a bushy tail\n- feature: orange fur",
        "- Appearance:\n  - a bushy tail\n  - orange fur",
        "```\n- a bushy tail\n- orange fur\n```",
        '"{\\"descriptions\\": [\\"a bushy tail\\", \\"orange fur\\"]}"',
    ],
)
def test_lists_of_all_kinds(text: str) -> None:
    assert read_reply(Reply(text), "phrase") == TWO


OBJECTS = [
    '{"descriptions": [{"description": "a bushy tail"}, {"description": "orange fur"}]}',
    '[{"feature": "a bushy tail", "explanation": "No dog has it."}, {"feature": "orange fur", "explanation": "Rare."}]',
    '[{"id": 1, "type": "phrase", "text": "a bushy tail"}, {"id": 2, "type": "phrase", "text": "orange fur"}]',
    '{"feature": "a bushy tail"}\n{"feature": "orange fur"}',
    '{"feature": "a bushy tail"}, {"feature": "orange fur"}',
    '{"1": "a bushy tail", "2": "orange fur"}',
    '{"class": "red fox", "description 1": "a bushy tail", "description 2": "orange fur"}',
    '{"tail": "a bushy tail", "fur": "orange fur"}',
    '[{"tail": "a bushy tail"}, {"fur": "orange fur"}]',
    '{"body": ["a bushy tail"], "fur": ["orange fur"]}',
    '[{"class": "red fox", "descriptions": ["a bushy tail", "orange fur"]}]',
    '{"thoughts": ["Is it a dog?", "No."], "features": ["a bushy tail", "orange fur"]}',
    '{"reasoning": "It is no dog.", "descriptions": ["a bushy tail", "orange fur"], "notes": ["none"]}',
    '{"name": "answer", "arguments": {"descriptions": ["a bushy tail", "orange fur"]}}',
    '{"descriptions": "a bushy tail, orange fur"}',
    '{"descriptions": "- a bushy tail\\n- orange fur"}',
    # The schema, with the answer in it or behind it.
    '{"type": "object", "properties": {"descriptions": ["a bushy tail", "orange fur"]}}',
    '{"type": "object", "properties": {"x": {}}, "required": []}\n{"descriptions": ["a bushy tail", "orange fur"]}',
]


@pytest.mark.parametrize("text", OBJECTS)
def test_objects_of_all_kinds(text: str) -> None:
    """Their keys are never descriptions, nor what stands beside them."""
    assert read_reply(Reply(text), "phrase") == TWO
    assert read_reply(Reply(f"Here you are:\n```json\n{text}\n```\nAnything else?"), "phrase") == TWO


SCHEMA = '{"type": "object", "properties": {"descriptions": {"type": "array", "items": {"type": "string"}}}}'
UNCLEAR = {
    "a schema": (SCHEMA, "repeats the schema"),
    "a schema in its wrapping": (
        f'{{"name": "descriptions", "strict": true, "schema": {SCHEMA}}}',
        "repeats the schema",
    ),
    "types in the place of texts": ('{"descriptions": ["string", "String"]}', "repeats the schema"),
    "several texts each": (
        '[{"part": "tail", "look": "bushy"}, {"part": "fur", "look": "red"}]',
        "several texts, 'part'",
    ),
    "texts as keys": ('{"bushy tail": "long and red", "fur": "orange"}', "it describes 'bushy tail'"),
    "one text as a key each": (
        '[{"a bushy tail": "It is long."}, {"orange fur": "It is soft."}]',
        "it describes 'a bushy",
    ),
    "a call of a tool": ('{"name": "look_up", "arguments": {"of": "red fox"}}', "it calls a tool"),
    "YAML": ("- name: tail\n  look: bushy\n- name: fur\n  look: red", "objects of several texts, each with 'name'"),
    "thinking aloud": ("Okay, so the user wants features of a fox.\n\nIt has a tail.", "it thinks aloud"),
    "thinking aloud, and a list": ("We need to list features.\n- a tail\n- ears", "it thinks aloud"),
    "a heading": ("**Thinking:**\nIt has a tail.", "it thinks aloud"),
    "a process": ("Here is my thought process:\nIt has a tail.", "it thinks aloud"),
    "an aside": ("*thinks: a fox ...*\n- a tail\n- ears", "it thinks aloud"),
    "an aside in brackets": ("(thinking) a fox\n\n- a tail\n- ears", "it thinks aloud"),
    "a comment": ("<!-- a fox has a tail -->\n- a tail\n- ears", "markup within its text"),
    "HTML": ("<ul>\n<li>a tail</li>\n</ul>", "markup within its text"),
    "a table": ("| feature | why |\n|---|---|\n| a tail | bushy |", "markup within its text"),
    "a torn mark": ("- a tail\n- ears <|im_", "markup within its text"),
}


@pytest.mark.parametrize(("text", "reason"), UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_may_be_no_description_is_none(text: str, reason: str) -> None:
    with pytest.raises(AnswerError, match=f"^unclear answer: .*{reason}") as caught:
        read_reply(Reply(text), "phrase")
    assert "plain list" in caught.value.remark and caught.value.earlier == ""


@pytest.mark.parametrize(
    "text", ["Here:\n[{'feature': 'a tail'}]", "Sure:\n{\n  feature: a tail\n}", "['a tail', 'ears']", "{feature: 'x'}"]
)
def test_what_looks_like_json_and_is_none(text: str) -> None:
    with pytest.raises(AnswerError, match="malformed JSON"):
        read_reply(Reply(text), "phrase")


@pytest.mark.parametrize(
    "text",
    [
        "- I see: two eyes\n- Let me down: a soft belly",
        "the user manual on its side\na mouse with two keys",
        "Let me list them:\n- the user manual on its side\n- a mouse with two keys",
        "a response light\nan answer key in red",
        "a (thinking) face\na thinking cap",
        "a < b on its face\nfur (2 > 1)",
    ],
)
def test_words_that_are_no_thoughts(text: str) -> None:
    assert len(read_reply(Reply(text), "phrase")) == 2


def test_what_was_left_out_is_told() -> None:
    assert read(Reply("<think>Hm.</think>- a tail<|im_end|>"), "phrase").left_out == (
        "thoughts",
        "marks of a chat format",
    )
    assert read(Reply("- a tail"), "phrase").left_out == ()


def test_sentences() -> None:
    both = ["A red fox has a bushy tail.", "Its fur is orange, and soft!"]
    for text in (" ".join(both), "\n".join(both), f"1. {both[0]}\n2. {both[1]}", json.dumps(both)):
        assert read_reply(Reply(text), "sentence") == both


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("3D wings of 2.5 cm", "3D wings of 2.5 cm"),
        ("a red-and-white flag", "a red-and-white flag"),
        ("eyes (two)", "eyes (two)"),
        ("U.S. colours", "U.S. colours"),
        ("snow_white fur", "snow_white fur"),
        ("ice-cream (\u00bd l)", "ice-cream (\u00bd l)"),
        ("**bold** and `code`", "bold and code"),
        ("a\x00tail\x1b[31m of\u202e a\u200bfox\ufeff", "atail[31m of afox"),
        ("a\ttail\u00a0of\u2028fur\r\n", "a tail of fur"),
        ("cafe\u0301", "caf\u00e9"),
        ("...", ""),
        ("", ""),
    ],
)
def test_one_description_cleaned(text: str, kept: str) -> None:
    assert clean(text, "phrase") == kept


@settings(max_examples=60)
@given(st.text(max_size=60), st.sampled_from(["phrase", "sentence"]))
def test_cleaning_leaves_no_control_characters_and_is_done_once(text: str, kind: Kind) -> None:
    kept = clean(text, kind)
    assert not any(unicodedata.category(c).startswith("C") for c in kept)
    assert kept == " ".join(kept.split())
    assert kept == "" or any(c.isalnum() for c in kept)


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_whatever_a_model_writes_is_read_or_refused(text: str) -> None:
    try:
        found = read_reply(Reply(text), "phrase")
    except AnswerError as error:
        assert error.reason
    else:
        assert found and all(found) and len({t.casefold() for t in found}) == len(found)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(""), "empty answer"),
        (Reply(" \n\t"), "empty answer"),
        (Reply("-\n-\n..."), "no list in the answer"),
        (Reply("undefined"), "no list in the answer"),
        (Reply("No."), "no list in the answer"),
        (Reply('{"descriptions": []}'), "no list in the answer"),
        (Reply("- a tail", finish_reason="length"), "cut off"),
        (Reply("- a tail", finish_reason="MAX_TOKENS"), "cut off (finish reason MAX_TOKENS)"),
        (
            Reply("<think>Hm", finish_reason="length"),
            "cut off (finish reason length); it thought too long: --set max_tokens",
        ),
        (
            Reply("", finish_reason="length", beside="thoughts alone"),
            "cut off (finish reason length); it thought too long",
        ),
        (Reply("", finish_reason="content_filter"), "refused by a content filter"),
        (Reply("", finish_reason="SAFETY"), "refused by a content filter"),
        (Reply("", beside="a call of a tool"), "no text, but a call of a tool"),
        (Reply("<think>Hm"), "unclear answer: its thoughts have no end"),
        (Reply("<think>Hm</think>"), "unclear answer: it gives its thoughts, and no answer"),
        (Reply("", refusal="I will not."), "refused: I will not."),
        (Reply("I'm sorry, but I can't help with that."), "refused: I'm sorry"),
        (Reply("As an AI language model, I cannot see."), "refused: As an AI"),
        (Reply('{"descriptions": ["a bushy tail", "orange'), "malformed JSON"),
        (Reply('["a bushy tail", orange fur]'), "malformed JSON"),
        (Reply("[" * 100_000), "malformed JSON"),
        (Reply("- a tail\n- two ears"), "2 of at least 3 phrases"),
    ],
)
def test_what_cannot_be_used_says_why_and_how_to_ask_again(reply: Reply, reason: str) -> None:
    least = 3 if "at least" in reason else 1
    with pytest.raises(AnswerError) as caught:
        read_reply(reply, "phrase", least=least)
    assert caught.value.reason.startswith(reason)
    assert "plain list of at least 3 phrases" in caught.value.remark


def test_a_phrase_about_sorrow_is_no_refusal() -> None:
    assert read_reply(Reply("- I cannot be missed: red fur\n- a tail\n- ears"), "phrase")[1:] == ["a tail", "ears"]


def test_each_text_once_in_its_first_spelling() -> None:
    assert distinct(["A tail", "", "a Tail", "ears", "A TAIL"]) == ["A tail", "ears"]


N = 20_000
LONG: dict[str, tuple[str, list[str]]] = {
    "closed thoughts": ("<think>x</think>" * N + "- a bushy tail\n- orange fur", TWO),
    "ends of thoughts": ("- a nose\n" + "</think>" * N + "- a bushy tail\n- orange fur", TWO),
    "marks of turns": ("<|im_start|>" * N + "- a bushy tail\n- orange fur" + "<|im_end|>" * N, TWO),
    "unknown marks": ("- a bushy tail\n- orange fur" + "<|x|>" * N, TWO),
    "JSON Lines": ('{"text": "a bushy tail"}\n' * N + '{"text": "orange fur"}', TWO),
    "greetings": ("Sure! " * N + "\n- a bushy tail\n- orange fur", TWO),
    "bullets": ("- " * N + "a bushy tail\n" + "1. " * N + "orange fur", TWO),
    "a fence without end": ("```" + "\n" * N + "- a bushy tail\n- orange fur", TWO),
    "blank lines": ("- a bushy tail" + "\n " * N + "\n- orange fur", TWO),
    "blanks after an end": ("A tail." + " " * N + "x", ["A tail. x"]),
    "marks": ("- a bushy tail " + "** " * (N + 1) + "\n- orange fur", ["a bushy tail", "orange fur"]),
}


@pytest.mark.parametrize(("text", "found"), LONG.values(), ids=LONG.keys())
def test_long_answers_take_no_longer_than_they_are(text: str, found: list[str]) -> None:
    """Each of these took minutes, or would never have ended."""
    assert read_reply(Reply(text), "phrase")[-len(found) :] == found


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * N + "\n- a tail",
        "<|x|>" * N + "<",
        '{"a":' * N,
        "okay, " * N,
        'x\n["a\n' * N,
        "x\n" + "\n\n[" * N,
        "[" * N,
        'x\n["a"' + "] " * N + "y",
    ],
)
def test_long_answers_that_are_no_json(text: str) -> None:
    with suppress(AnswerError):
        read_reply(Reply(text), "phrase")


def test_too_many_descriptions() -> None:
    """A published list may be long; no answer is."""
    assert len(read_reply(Reply(json.dumps([f"tail {i}" for i in range(10_000)])), "phrase")) == 10_000
    with pytest.raises(AnswerError, match="10,001 phrases in one answer, more than 10,000"):
        read_reply(Reply(json.dumps([f"tail {i}" for i in range(10_001)])), "phrase")
