"""Descriptions found for a data set: where, which, and for which classes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from platformdirs import user_data_dir

from tests.describe.material import NAMES, PHRASES, line, write_descriptions
from vlmprompt.data.records import Dataset
from vlmprompt.describe import library
from vlmprompt.describe.library import DescriptionFile, choose, describe, find
from vlmprompt.errors import InputError

PHOTOS = Dataset("photos", "folder:photos", NAMES, {})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.setattr(library, "__file__", str(tmp_path / "src/vlmprompt/describe/library.py"))
    return tmp_path


def test_places_in_their_order(here: Path) -> None:
    user = Path(user_data_dir("vlmprompt"))
    assert user.is_relative_to(here)
    shipped = write_descriptions(here / "src/vlmprompt/prompts_cache/photos/a--b--c.jsonl")
    assert find(PHOTOS).path == shipped
    own = write_descriptions(user / "prompts_cache/photos/a--b--c.jsonl")
    assert find(PHOTOS).path == own
    near = write_descriptions(Path("prompts_cache/photos/a--b--c.jsonl"))
    assert find(PHOTOS).path == near
    assert find(replace(PHOTOS, name="other")) is None


def test_a_checkout_has_them_beside_its_sources(here: Path) -> None:
    folder = here / "elsewhere"
    folder.mkdir()
    (here / "prompts_cache").mkdir()
    assert library.places()[-1] == here / "prompts_cache"


def test_shipped_parts_give_way(here: Path) -> None:
    parts = write_descriptions(Path("prompts_cache/photos/parts--photos--parts.jsonl"))
    assert find(PHOTOS).path == parts
    asked = write_descriptions(Path("prompts_cache/photos/openai--m--features.jsonl"))
    assert find(PHOTOS).path == asked
    write_descriptions(Path("prompts_cache/photos/openai--m--sentences.jsonl"))
    with pytest.raises(InputError, match=r"has several files of descriptions: .*features.*sentences") as caught:
        find(PHOTOS)
    assert caught.value.hint == f"choose one: --descriptions {asked}"
    assert choose(PHOTOS, parts).path == parts


def test_none_at_all(here: Path) -> None:
    with pytest.raises(InputError, match="no descriptions of the classes of 'folder:photos'") as caught:
        choose(PHOTOS)
    assert "vlmprompt describe-classes --data folder:photos" in str(caught.value.hint)
    with pytest.raises(InputError, match=r"cannot read the descriptions x\.jsonl"):
        choose(PHOTOS, "x.jsonl")


def test_texts_stand_by_their_class(here: Path) -> None:
    file = DescriptionFile.read(write_descriptions(Path("a.jsonl")))
    assert file.digest == hashlib.sha256(Path("a.jsonl").read_bytes()).hexdigest()
    assert file.providers == ("openai m-1",)
    described = describe(PHOTOS, file)
    assert described.descriptions == tuple(tuple(PHRASES[name]) for name in NAMES)
    assert described.digest == PHOTOS.digest
    half = described.restrict([2, 0], suffix="-half")
    assert half.descriptions == (("a blowhole",), ("a bushy tail", "orange fur"))


def test_spelling_does_not_matter(here: Path) -> None:
    file = DescriptionFile.read(write_descriptions(Path("a.jsonl")))
    spelt = replace(PHOTOS, class_names=("Red_Fox", "green frog", "blue  whale", "grey wolf"))
    assert describe(spelt, file).descriptions == describe(PHOTOS, file).descriptions


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("grey wolf", "green frog", "blue whale", "red fox"), "class 0 is 'red fox' there, here it is 'grey wolf'"),
        (NAMES[:2], "class 2 is 'blue whale' there, there are 2 classes here"),
    ],
)
def test_a_file_for_other_classes_is_refused(here: Path, names: tuple[str, ...], message: str) -> None:
    file = DescriptionFile.read(write_descriptions(Path("a.jsonl")))
    with pytest.raises(InputError, match=f"a.jsonl describes other classes: {message}"):
        describe(replace(PHOTOS, class_names=names), file)


def test_classes_without_any(here: Path) -> None:
    file = DescriptionFile.read(write_descriptions(Path("a.jsonl"), phrases={"red fox": ["a tail"]}))
    assert describe(PHOTOS, file).descriptions == (("a tail",), (), (), ())
    assert describe(PHOTOS, file, need=[0]).descriptions is not None
    message = "a.jsonl does not describe 2 of 3 classes: 'green frog', 'blue whale'"
    with pytest.raises(InputError, match=message) as caught:
        describe(PHOTOS, file, need=[0, 1, 2])
    assert "describe-classes --data folder:photos" in str(caught.value.hint)
    assert "--allow-missing" in str(caught.value.hint)


def test_another_data_sets_descriptions_serve_by_name(here: Path) -> None:
    """Such as those of all classes for a part of them, whose labels differ."""
    write_descriptions(Path("prompts_cache/photos/a--b--c.jsonl"))
    part = Dataset("photos-wild", "photos-wild", ("grey wolf", "red fox"), {}, described_by="photos")
    file = choose(part)
    assert describe(part, file).descriptions == (("pointed ears", "a long snout"), ("a bushy tail", "orange fur"))
    strangers = replace(part, class_names=("an owl", "a cat"))
    with pytest.raises(InputError, match="no descriptions of the classes of 'photos-wild'"):
        choose(strangers)
    own = write_descriptions(Path("prompts_cache/photos-wild/a--b--c.jsonl"), names=part.class_names)
    assert choose(part).path == own
    assert describe(part, choose(part)).descriptions == describe(part, file).descriptions


def test_a_data_sets_name_is_safe_as_a_folders(here: Path) -> None:
    path = Path("prompts_cache/a_b/x.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text(line(0, "red fox", "a tail"))
    assert choose(replace(PHOTOS, name="a:/b")).path == path
