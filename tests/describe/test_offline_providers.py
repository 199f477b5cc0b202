"""Descriptions without a model: published files, and the drawings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.describe.library import DescriptionFile
from vlmprompt.describe.order import Order, Summary
from vlmprompt.describe.providers.file import _is_sentence
from vlmprompt.describe.service import describe_classes
from vlmprompt.describe.work import ClassList
from vlmprompt.doodles.pictures import members
from vlmprompt.errors import InputError, UsageError

ROOT = Path(__file__).parents[2]
PHRASES = {"Red_Fox": ["bushy tail", "a red coat."], "hound": ["floppy ears"], "carp": []}
SENTENCES = {
    "red fox": ["A red fox has a bushy tail.", "Its fur, which is thick, is red."],
    "hound": ["A hound has floppy ears."],
}


def imported(names: tuple[str, ...], content: object, **options: Any) -> Summary:
    Path("from.json").write_text(json.dumps(content), encoding="utf-8")
    return describe_classes(Order(ClassList("pets", names), "file", {"file": Path("from.json"), **options}))


def test_phrases_by_name(here: Path) -> None:
    summary = imported(("hound", "red fox"), PHRASES)
    assert [(line.class_index, line.name, line.text, line.kind) for line in summary.lines] == [
        (0, "hound", "floppy ears", "phrase"),
        (1, "red fox", "bushy tail", "phrase"),
        (1, "red fox", "a red coat", "phrase"),
    ]
    assert str(summary.path) == "prompts_cache/pets/file--from--phrases.jsonl"
    line = summary.lines[0]
    assert (line.provider, line.model, line.dataset) == ("file", "from", "pets")
    assert line.source.startswith("from.json, SHA-256 ")
    assert (summary.described, summary.cached, summary.spent.requests, summary.failed) == (2, 2, 0, ())


def test_sentences_are_told_from_phrases(here: Path) -> None:
    summary = imported(("red fox",), SENTENCES)
    assert [line.text for line in summary.lines] == SENTENCES["red fox"]
    assert {line.kind for line in summary.lines} == {"sentence"}
    assert summary.path.name == "file--from--sentences.jsonl"
    assert imported(("red fox",), SENTENCES, kind="phrase").path.name == "file--from--phrases.jsonl"


def test_other_spellings_have_aliases(here: Path) -> None:
    Path("aliases.json").write_text('{"Beagle Dog": "hound", "vulpes_vulpes": "Red_Fox"}')
    summary = imported(("beagle dog", "vulpes vulpes"), PHRASES, aliases=Path("aliases.json"))
    assert [line.text for line in summary.lines] == ["floppy ears", "bushy tail", "a red coat"]


def test_aliases_are_lines_as_everywhere_and_one_of_several_names_will_do(here: Path) -> None:
    Path("aliases.txt").write_text("hound = beagle dog\nRed_Fox = vulpes\nvulpes = vulpes\n")
    summary = imported(("beagle dog", "fox | vulpes"), PHRASES, aliases=Path("aliases.txt"))
    assert [line.text for line in summary.lines] == ["floppy ears", "bushy tail", "a red coat"]
    shutil.rmtree("prompts_cache")
    assert [line.text for line in imported(("dog | hound",), PHRASES).lines] == ["floppy ears"]


def test_what_the_file_lacks_is_named(here: Path) -> None:
    summary = imported(("red foxes", "carp", "zebra", "hound"), PHRASES)
    assert [(failure.class_index, failure.reason) for failure in summary.failed] == [
        (0, "from.json has no class 'red foxes': did you mean 'Red_Fox'?"),
        (1, "from.json has no text for 'carp'"),
        (2, "from.json has no class 'zebra'"),
    ]
    shutil.rmtree("prompts_cache")
    near = imported(("houndd",), PHRASES | {"hound dog": ["x y"]}).failed[0].reason
    assert near == "from.json has no class 'houndd': did you mean 'hound' or 'hound dog'?"


def test_two_classes_of_one_name_share_a_text(here: Path) -> None:
    summary = imported(("hound", "Hound"), PHRASES)
    assert [(line.class_index, line.text) for line in summary.lines] == [(0, "floppy ears"), (1, "floppy ears")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "is no JSON object of class names"),
        ("{}", "is no JSON object of class names"),
        ('{"fox": "a tail"}', "what it has for 'fox' is no list of texts"),
        ('{"fox": [1]}', "what it has for 'fox' is no list of texts"),
        ('{"fox": ["a tail"', "is no JSON"),
    ],
)
def test_files_of_another_shape(here: Path, content: str, message: str) -> None:
    Path("bad.json").write_text(content)
    with pytest.raises(InputError, match=message):
        describe_classes(Order(ClassList("pets", ("fox",)), "file", {"file": Path("bad.json")}))


def test_files_that_are_not_there(here: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read none\.json"):
        describe_classes(Order(ClassList("pets", ("fox",)), "file", {"file": Path("none.json")}))
    with pytest.raises(UsageError, match="needs a file"):
        describe_classes(Order(ClassList("pets", ("fox",)), "file"))


def test_parts_are_the_shipped_descriptions(here: Path) -> None:
    """The provider writes the very file that comes with the package."""
    summary = describe_classes(Order(ClassList("doodles", members("")), "parts", out=here))
    shipped = ROOT / "prompts_cache/doodles/parts--doodles--parts.jsonl"
    assert (here / "doodles/parts--doodles--parts.jsonl") == summary.path
    written = [line.model_dump(exclude={"flag"}) for line in DescriptionFile.read(summary.path).lines]
    assert written == [line.model_dump(exclude={"flag"}) for line in DescriptionFile.read(shipped).lines]


def test_parts_know_only_what_is_drawn(here: Path) -> None:
    names = ("fish", "unicycle", "ice_cream")
    summary = describe_classes(Order(ClassList("pets", names), "parts"))
    assert [failure.name for failure in summary.failed] == ["unicycle"]
    assert summary.described == 2


def test_they_are_asked_in_no_words(here: Path) -> None:
    with pytest.raises(UsageError, match="provider parts asks no questions"):
        describe_classes(Order(ClassList("pets", ("fish",)), "parts", template="features"))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("A fox has ears.", True),
        ('"A fox has ears!"', True),
        ("A fox has ears. (Two)", False),
        ("a fox has ears.", False),
        ("A fox.", False),
        ("A fox has ears", False),
        ("", False),
        ("A " * 100_000 + "x", False),  # took as long as its length to the third power
        ("A b c" + "." * 100_000, True),
    ],
)
def test_what_a_sentence_is(text: str, is_one: bool) -> None:
    assert _is_sentence(text) is is_one
