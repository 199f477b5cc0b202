"""Pictures in folders by class: safe names, and nothing is ever overwritten or put there twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmprompt.atomic import ABANDONED_S
from vlmprompt.errors import InputError
from vlmprompt.predict import sorting
from vlmprompt.predict.sorting import MOST_BYTES, Sorter, folder_names

NAMES = ("red fox", "green frog")


def picture(path: Path, content: str = "a") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["red fox", "tench, fish"], ["red fox", "tench, fish"]),
        (["a/b", "a\\b", "a_b"], ["a_b", "a_b-2", "a_b-3"]),
        (["..", ".", "", " "], ["class 0", "class 1", "class 2", "class 3"]),
        (["unknown", "Unknown"], ["unknown-2", "Unknown-3"]),
        (["Owl", "owl"], ["Owl", "owl-2"]),
        (["con", "Com1.x", "consul"], ["con_", "Com1.x_", "consul"]),
        (
            ["car | automobile", "what?", "tab\tand\x1bescape", "\u202eabc"],
            ["car _ automobile", "what_", "tab and_escape", "_abc"],
        ),
        ([".hidden.", "~x"], ["hidden", "~x"]),
        (["e\u0301", "\u00e9"], ["\u00e9", "\u00e9-2"]),
    ],
)
def test_names_of_folders(names: list[str], folders: list[str]) -> None:
    assert folder_names(names) == folders


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=6))
def test_any_class_names_give_different_safe_folders(names: list[str]) -> None:
    found = folder_names(names)
    assert len({name.casefold() for name in [*found, "unknown"]}) == len(names) + 1
    for name in found:
        assert name and len(name.encode()) <= MOST_BYTES + 8 and Path(name).name == name
        assert not set(name) & set('/\\:*?"<>|\0\n') and name.strip(". ") == name


def test_copies_go_where_they_belong(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sorter = Sorter(out, NAMES)
    one, other = picture(tmp_path / "in/1/a.jpg"), picture(tmp_path / "in/2/a.jpg", "other")
    assert sorter.put(one, 0) == out / "red fox/a.jpg"
    assert sorter.put(other, 0) == out / "red fox/a-2.jpg"
    assert sorter.put(one, 1, known=False) == out / "unknown/a.jpg"
    assert files(out) == {"red fox/a.jpg": "a", "red fox/a-2.jpg": "other", "unknown/a.jpg": "a"}
    assert one.exists() and other.exists()


def test_again_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    pictures = [picture(tmp_path / "in/1/a.jpg"), picture(tmp_path / "in/2/a.jpg", "other")]
    for how in ("copy", "hard", "symbolic"):
        first = [Sorter(out / how, NAMES, how).put(path, 0) for path in pictures]
        assert [Sorter(out / how, NAMES, how).put(path, 0) for path in pictures] == first
        assert len(files(out / how)) == 2


def test_what_somebody_has_put_there_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    mine = picture(out / "red fox/a.jpg", "mine")
    (out / "red fox/a-2.jpg").symlink_to("nowhere")
    (out / "red fox/a-3.jpg").mkdir()
    assert Sorter(out, NAMES).put(picture(tmp_path / "a.jpg"), 0) == out / "red fox/a-4.jpg"
    assert mine.read_text() == "mine" and (out / "red fox/a-2.jpg").is_symlink()


def test_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("in/a.jpg"))
    hard = Sorter(Path("out"), NAMES, "hard").put(Path("in/a.jpg"), 0)
    assert hard.samefile("in/a.jpg") and not hard.is_symlink()
    soft = Sorter(Path("out"), NAMES, "symbolic").put(Path("in/a.jpg"), 1)
    assert soft.is_symlink() and soft.readlink() == tmp_path / "in/a.jpg"


def test_a_number_finds_room_in_the_longest_name(tmp_path: Path) -> None:
    name = "x" * 251 + ".jpg"  # 255 bytes, the most that systems take
    sorter = Sorter(tmp_path / "out", NAMES)
    made = [sorter.put(picture(tmp_path / folder / name, folder), 0).name for folder in ("1", "2")]
    assert made == [name, "x" * 249 + "-2.jpg"]


def test_a_picture_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(source: Path, target: Path) -> None:
        target.write_text("ha")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(sorting.shutil, "copyfile", torn)
    with pytest.raises(InputError, match="No space left on device"):
        Sorter(tmp_path / "out", NAMES).put(picture(tmp_path / "a.jpg"), 0)
    assert files(tmp_path / "out") == {}


def test_a_copy_is_dated_as_its_picture_and_what_killed_calls_left_goes(tmp_path: Path) -> None:
    place = tmp_path / "out/red fox"
    old, fresh = (picture(place / f".{digit * 16}.vlmprompt-part") for digit in "ab")
    now = fresh.stat().st_mtime
    os.utime(old, (now, now - ABANDONED_S - 60))
    one = picture(tmp_path / "a.jpg")
    os.utime(one, (now, now - 10 * ABANDONED_S))
    copy = Sorter(tmp_path / "out", NAMES).put(one, 0)
    assert copy.stat().st_mtime == pytest.approx(now - 10 * ABANDONED_S, abs=1)
    assert sorted(place.iterdir()) == [fresh, copy]


def test_a_picture_that_has_gone_and_links_between_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg is gone"):
        Sorter(tmp_path / "out", NAMES).put(tmp_path / "gone.jpg", 0)

    def elsewhere(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(sorting.os, "link", elsewhere)
    with pytest.raises(InputError, match="Invalid cross-device link") as error:
        Sorter(tmp_path / "out", NAMES, "hard").put(picture(tmp_path / "a.jpg"), 0)
    assert "--link symbolic" in str(error.value.hint)
