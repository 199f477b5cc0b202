"""Questions: the shipped ones, and a user's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vlmprompt.describe.templates import load_template, shipped
from vlmprompt.errors import InputError, UsageError


def test_dual_pts_question_word_for_word() -> None:
    assert load_template("features").ask("red_fox") == (
        "Q: What are the useful features for distinguishing a red fox in a photo? "
        "Please just give me a list of short phrases. Answer: -"
    )


def test_the_shipped_ones() -> None:
    assert {name: template.kind for name, template in shipped().items()} == {
        "features": "phrase",
        "descriptors": "phrase",
        "sentences": "sentence",
    }
    for template in shipped().values():
        assert "\n" not in template.text and "  " not in template.text
        assert "{" not in template.ask("owl")


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeffWhat has a {class}?\nA {class} has:\n")
    template = load_template(str(path))
    assert (template.name, template.kind) == ("mine", "phrase")
    assert template.ask("owl") == "What has a owl?\nA owl has:"
    assert template.sha256 == hashlib.sha256(b"What has a {class}?\nA {class} has:").hexdigest()


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('text = "Tell of the {class}."\nkind = "sentence"\n')
    assert load_template(str(path)).kind == "sentence"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "What has it?", "does not say where the class name stands"),
        ("a.txt", "What has a {CLASS}?", "does not say where the class name stands"),
        ("a.toml", "text = ", "is not TOML"),
        ("a.toml", 'kind = "phrase"', "text: Field required"),
        ("a.toml", 'text = "{class}"\nkind = "poem"', "kind: "),
        ("a.toml", 'text = "{class}"\ntemperature = 1', "temperature: "),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_template(str(path))
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_no_such_template() -> None:
    with pytest.raises(UsageError, match="no template 'feature'") as caught:
        load_template("feature")
    assert "'features'" in str(caught.value.hint)
