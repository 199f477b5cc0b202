"""Values written as text."""

from __future__ import annotations

import datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from vlmprompt.config.keys import Text, read_value, show_value
from vlmprompt.config.models import TrainConfig


class Fields(BaseModel):
    number: float | None = None
    words: str | None = None
    name: str = ""
    choice: Literal["auto", "off"] = "auto"
    many: list[str] | int = 0
    anything: Any = None


def read(key: str, text: str) -> Any:
    return read_value(key, Text(text), Fields.model_fields[key], source="--set")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("number", "0.002", 0.002),
        ("number", "1e-3", 1e-3),
        ("number", "3", 3),
        ("number", "none", None),
        ("number", "None", None),
        ("words", "a photo of a", "a photo of a"),
        ("words", "42", "42"),
        ("words", "true", "true"),
        ("words", '"none of them"', "none of them"),
        ("words", "none", None),
        ("words", "", ""),
        ("name", "none", "none"),
        ("choice", "off", "off"),
        ("many", '["a", "b"]', ["a", "b"]),
        ("many", "[a, b]", "[a, b]"),
        ("many", "7", 7),
        ("anything", "[1, 2]", [1, 2]),
        ("anything", "2024-01-01", "2024-01-01"),
        ("anything", "1\nother = 2", "1\nother = 2"),
        ("name", "C:\\photos", "C:\\photos"),
    ],
)
def test_text_is_toml_or_bare(key: str, text: str, value: Any) -> None:
    got = read(key, text)
    assert got == value
    assert type(got) is type(value)
    assert not isinstance(got, datetime.date)


def test_values_that_are_no_text_stay() -> None:
    field = Fields.model_fields["number"]
    assert read_value("number", 0.5, field, source="f") == 0.5
    assert read_value("number", None, field, source="f") is None


@given(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_shown_are_read_back(value: float | int | None) -> None:
    assert read("number", show_value("number", value)) == value


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]))))
def test_lists_shown_are_read_back(value: list[str]) -> None:
    assert read("many", show_value("many", value)) == value


@given(st.dictionaries(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1), st.integers(1, 9)))
def test_tables_shown_are_read_back(value: dict[str, int]) -> None:
    field = TrainConfig.model_fields["class_weights"]
    shown = show_value("train.class_weights", value)
    assert read_value("train.class_weights", Text(shown), field, source="--set") == value


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"])).filter(lambda t: t == t.strip()))
def test_plain_text_shown_is_read_back(value: str) -> None:
    """But for the two words that stand for nothing, and quotes."""
    if value.lower() not in ("none", "null") and not value.startswith(("'", '"')):
        assert read("words", show_value("words", value)) == value


def test_shots_are_shown_as_they_are_given() -> None:
    assert show_value("shots", None) == "all"
    assert show_value("shots", 4) == "4"
