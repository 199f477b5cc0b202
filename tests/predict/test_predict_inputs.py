"""What is named on a command line, as pictures: in order, read lazily, nothing twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlmprompt.errors import InputError, UsageError, VlmPromptError
from vlmprompt.predict.inputs import Inputs


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b/2.png",
        "in/b/1.jpg",
        "in/a.JPG",
        "in/c.png",
        "in/notes.txt",
        "in/.hidden.png",
        "in/@eaDir/x.png",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path


def named(*words: str, **more: object) -> list[str]:
    return [str(path) for path in Inputs.of(words, **more)]  # type: ignore[arg-type]


def test_folders_files_and_patterns(tree: Path) -> None:
    assert named("in") == ["in/a.JPG", "in/b/1.jpg", "in/b/2.png", "in/c.png"]
    assert named("in/notes.txt", "in/c.png", "in/b") == ["in/notes.txt", "in/c.png", "in/b/1.jpg", "in/b/2.png"]
    assert named("in/*.png") == ["in/c.png"]
    assert named("in/**/[1-9].*") == ["in/b/1.jpg", "in/b/2.png"]
    assert Inputs.of(["in", "in/c.png"]).count() == 5


def test_patterns_find_everything_once(tree: Path) -> None:
    everything = ["in/a.JPG", "in/b/1.jpg", "in/b/2.png", "in/c.png"]
    assert named("in/**") == named("i*/**") == named("**") == everything
    assert named("in/**/*.[pJ]*") == ["in/a.JPG", "in/b/2.png", "in/c.png"]
    assert named("in/*") == [*everything, "in/notes.txt"] and named("in/@eaDir/*") == ["in/@eaDir/x.png"]
    assert named("in/.*") == ["in/.hidden.png"] and named("in/**.png") == named("in/*.png") == ["in/c.png"]
    assert named(f"{tree}/in/../in/b/*.png") == [f"{tree}/in/../in/b/2.png"]
    for pattern in ("nowhere/**", "in/" + "x" * 300 + "/*.png", "x" * 300 + "/**"):
        with pytest.raises(InputError, match="nothing fits the pattern"):
            named(pattern)


def test_patterns_end_where_links_go_in_circles(tree: Path) -> None:
    """As many ways through two links as there are numbers of 40 bits."""
    for name in ("up", "again"):
        Path("in/b", name).symlink_to("..")
    assert named("in/**/*.png") == ["in/b/2.png", "in/c.png"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tree: Path) -> None:
    Path("in/[1].png").touch()
    Path("in/1.png").touch()
    assert named("in/[1].png") == ["in/[1].png"]


def test_a_list_is_read_line_by_line(tree: Path) -> None:
    read: list[str] = []

    def lines() -> Iterator[str]:
        for line in ("in/c.png\r\n", "\n", "in/b\n", "nowhere.png"):
            read.append(line)
            yield line

    inputs = Inputs.of(["in/a.JPG", "-"], stdin=lines())
    assert inputs.count() is None and read == []
    found = iter(inputs)
    assert [str(next(found)), str(next(found)), read] == ["in/a.JPG", "in/c.png", ["in/c.png\r\n"]]
    assert [str(path) for path in found] == ["in/b/1.jpg", "in/b/2.png", "nowhere.png"]


def test_links_in_a_circle_end(tree: Path) -> None:
    Path("in/b/up").symlink_to("..")
    assert named("in") == ["in/a.JPG", "in/b/1.jpg", "in/b/2.png", "in/c.png"]


def test_the_folder_that_pictures_are_sorted_into_is_left_out(tree: Path) -> None:
    assert named("in", left_out=Path("in/b")) == ["in/a.JPG", "in/c.png"]
    assert named("in", left_out=tree / "in" / "b" / ".." / "b") == ["in/a.JPG", "in/c.png"]
    assert named("in", left_out=Path("later"))[0] == "in/a.JPG"
    assert named("in/[a-c]*", left_out=Path("in/b")) == ["in/a.JPG", "in/c.png"]
    assert named("-", stdin=["in/c.png", "in/b/1.jpg", "in/b"], left_out=Path("in/b")) == ["in/c.png"]
    assert named("in/b/1.jpg", left_out=Path("in/b")) == ["in/b/1.jpg"]
    with pytest.raises(InputError, match="outside of in/b"):
        named("in/b/*", left_out=Path("in/b"))
    with pytest.raises(UsageError, match="in is named as a folder of pictures, and as the folder to sort"):
        Inputs.of(["in"], left_out=tree / "in")


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tree: Path) -> None:
    told: list[tuple[str, VlmPromptError]] = []
    lines = ["in/b\n", "x" * 5000, "in/\udcff.png\n", "in/\0.png\n", "in/c.png\n"]
    inputs = Inputs.of(["-"], stdin=lines)
    found = [str(path) for path in inputs.pictures(lambda path, error: told.append((path, error)))]
    assert found[:2] == ["in/b/1.jpg", "in/b/2.png"] and found[-1] == "in/c.png"
    assert any("not UTF-8" in error.message for _, error in told)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_without_rights(tree: Path) -> None:
    Path("in/b").chmod(0)
    told: list[str] = []
    try:
        found = [str(path) for path in Inputs.of(["in"]).pictures(lambda path, error: told.append(path))]
    finally:
        Path("in/b").chmod(0o700)
    assert (found, told) == (["in/a.JPG", "in/c.png"], ["in/b"])


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ([], UsageError, "no picture is named"),
        (["-", "-"], UsageError, "read once"),
        (["nowhere"], InputError, "there is no nowhere"),
        (["in/*.gif"], InputError, r"nothing fits the pattern in/\*\.gif"),
    ],
)
def test_what_names_nothing(words: list[str], kind: type[VlmPromptError], message: str, tree: Path) -> None:
    with pytest.raises(kind, match=message) as error:
        Inputs.of(words)
    assert error.value.hint


def test_a_folder_without_images(tree: Path) -> None:
    Path("empty").mkdir()
    Path("empty/a.txt").touch()
    with pytest.raises(InputError, match="folder empty has no images"):
        Inputs.of(["in", "empty"]).count()
