"""What is no file, or has no end: named in one line, and never opened. A test that would wait for ever fails here."""

from __future__ import annotations

import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.conftest import MakeTree
from vlmprompt.data.check import check
from vlmprompt.data.coop.facts import benchmark
from vlmprompt.data.files import files_below, locate
from vlmprompt.data.images import read_image
from vlmprompt.data.load import load_dataset, load_outliers
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError, UsageError
from vlmprompt.progress import SilentProgress
from vlmprompt.regular import regular

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def photos(make_tree: MakeTree) -> Path:
    return make_tree(
        [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("cat", "dog") for i in "12"]
    )


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to(os.devnull)


def nowhere(path: Path) -> None:
    path.symlink_to("gone")


def itself(path: Path) -> None:
    path.symlink_to(path.name)


ODD: dict[Callable[[Path], None], str] = {
    pipe: "is a named pipe, not a file",
    device: "is a device, not a file",
    nowhere: "is a link that leads nowhere",
    itself: "is a link that leads nowhere",
}


@pytest.mark.parametrize(("make", "said"), ODD.items(), ids=[make.__name__ for make in ODD])
def test_what_is_no_file_is_named(photos: Path, make: Callable[[Path], None], said: str) -> None:
    odd = photos / "train" / "cat" / "3.png"
    make(odd)
    for load in (load_dataset, load_outliers):
        with pytest.raises(InputError, match=f"{odd} {said}") as error:
            load(f"folder:{photos}")
        assert error.value.hint == "remove it, or put a file in its place"
    report = check(f"folder:{photos}", None, SilentProgress())
    assert [message for message, _ in report.problems] == [f"{odd} {said}"]


def test_a_socket_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos / "train" / "cat")  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        with pytest.raises(InputError, match=r"s\.png is a socket, not a file"):
            load_dataset(f"folder:{photos}")


def test_a_class_that_is_a_dangling_link_is_not_lost(photos: Path) -> None:
    nowhere(photos / "train" / "emu")
    with pytest.raises(InputError, match="train/emu is a link that leads nowhere"):
        load_dataset(f"folder:{photos}")


def test_links_in_a_circle_end(photos: Path) -> None:
    """Two links to a parent: 2^n paths of n steps."""
    for name in ("up", "over"):
        (photos / "train" / "cat" / name).symlink_to("..", target_is_directory=True)
    with pytest.raises(InputError, match=r"folder .* is .* once more, through a link") as error:
        load_dataset(f"folder:{photos}")
    assert error.value.hint == "remove the link: each image is read once"
    with pytest.raises(InputError, match="once more, through a link"):
        load_outliers(f"folder:{photos}")


def test_a_class_that_is_a_link_to_the_data_set(photos: Path) -> None:
    (photos / "train" / "all").symlink_to("..", target_is_directory=True)
    with pytest.raises(InputError, match="once more, through a link"):
        load_dataset(f"folder:{photos}")


def test_links_to_folders_elsewhere_are_followed(photos: Path, tmp_path: Path) -> None:
    (photos / "train" / "cat").rename(tmp_path / "cats")
    (photos / "train" / "cat").symlink_to(tmp_path / "cats", target_is_directory=True)
    (photos / "train" / "dog" / "more").symlink_to(tmp_path / "cats", target_is_directory=True)
    found = [record.id for record in load_dataset(f"folder:{photos}").splits["train"]]
    assert found == [f"train/{path}.png" for path in ("cat/1", "cat/2", "dog/1", "dog/2", "dog/more/1", "dog/more/2")]


def test_files_below_is_what_a_walk_finds(make_tree: MakeTree) -> None:
    base = make_tree(["a/b/c.png", "a/d.txt", "e.png", ".hidden/f.png", "a/.g.png", "Thumbs.db", "empty/"])
    assert sorted(files_below(base)) == ["a/b/c.png", "a/d.txt", "e.png"]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_lists(tmp_path: Path, kind: str) -> None:
    pipe(tmp_path / "list")
    with pytest.raises(InputError, match=f"cannot read list {tmp_path}/list: it is a named pipe, not a file"):
        load_dataset(f"{kind}:{tmp_path / 'list'}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot read list .*folder: Is a directory"):
        load_dataset(f"{kind}:{tmp_path / 'folder'}")


def test_class_names(photos: Path, tmp_path: Path) -> None:
    pipe(tmp_path / "names.txt")
    with pytest.raises(InputError, match=r"class names from .*names\.txt: it is a named pipe"):
        load_dataset(f"folder:{photos}", class_names_file=tmp_path / "names.txt")


def test_split_files_count_as_absent(tmp_path: Path) -> None:
    split = benchmark("dtd").split
    assert split is not None
    (tmp_path / "dtd").mkdir()
    pipe(tmp_path / "dtd" / split.file)
    with pytest.raises(InputError, match=f"has no {split.file}"):
        load_dataset("coop:dtd", root=tmp_path)


def test_shards(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    pipe(tmp_path / "train" / "0.tar")
    with pytest.raises(InputError, match=r"0\.tar is a named pipe, not a file"):
        load_dataset(f"wds:{tmp_path}")
    (tmp_path / "train" / "0.tar").unlink()
    with tarfile.open(tmp_path / "train" / "0.tar", "w") as tar:
        for name in ("1.png", "1.cls"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.FIFOTYPE
            tar.addfile(member)
    with pytest.raises(InputError):  # what is no file in a shard is not there
        load_dataset(f"wds:{tmp_path}")


@pytest.mark.parametrize("pattern", ["{0..999999999}.tar", "{0..9999}-{0..9999}.tar", "a{0..999999999999999999}.tar"])
def test_patterns_of_shards_are_bounded(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="stands for more than 100,000 names"):
        load_dataset(f"wds:{tmp_path}/{pattern}")


def test_a_number_of_a_thousand_digits_is_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no shards"):
        load_dataset(f"wds:{tmp_path}/{{0..{'9' * 100}}}.tar")


def test_images_are_looked_at_again_when_they_are_read(tmp_path: Path) -> None:
    for make, said in {pipe: "it is a named pipe, not a file", device: "it is a device, not a file"}.items():
        make(tmp_path / f"{make.__name__}.png")
        with pytest.raises(InputError, match=f"cannot read image .*: {said}"):
            read_image(Record("x", 0, tmp_path / f"{make.__name__}.png"))
    with pytest.raises(InputError, match="Is a directory"):
        read_image(Record("x", 0, tmp_path))


@pytest.mark.parametrize("argument", ["x" * 5000, "a\0b", "gone"])
def test_paths_that_no_system_has(argument: str) -> None:
    with pytest.raises(InputError, match="there is no"):
        locate(argument, Path("root"))


def test_a_path_that_is_not_utf8() -> None:
    for load in (load_dataset, load_outliers):
        with pytest.raises(InputError, match=r"a file name is not UTF-8, at .*photos-"):
            load("folder:photos-\udcff")


def test_regular_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    assert [regular(tmp_path / name).name for name in ("file", "link")] == ["file", "link"]
    for path, said in [("gone", "No such file"), ("a\0b", "its name holds a null character"), (".", "Is a directory")]:
        with pytest.raises(OSError, match=said):
            regular(tmp_path / path)
