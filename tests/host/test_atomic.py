"""Writing files: whole or not at all, and nothing of anybody else's is touched on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vlmprompt import atomic
from vlmprompt.atomic import ABANDONED_S, parts, probe, replacing, write_atomic
from vlmprompt.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_users_files_of_any_name_survive_a_probe(tmp_path: Path) -> None:
    for name in ("probe", ".probe", "tmp", f".probe-{os.getpid()}.tmp", ".run.json.tmp"):
        (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    probe(tmp_path)
    assert names(tmp_path) == before and {f.read_text() for f in tmp_path.iterdir()} == {"mine"}


def test_a_probe_leaves_no_folder_behind(tmp_path: Path) -> None:
    probe(tmp_path / "a" / "b")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*run: Not a directory"):
        probe(tmp_path / "file" / "run")
    assert names(tmp_path) == ["file"]


def test_a_probe_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match="No space left"):
        probe(tmp_path / "run")
    assert names(tmp_path) == []


def test_the_temporary_file_has_a_name_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda n: b"\7" * n)
    taken = tmp_path / f".{'07' * 8}.vlmprompt-part"
    taken.write_text("somebody is writing this")
    with pytest.raises(InputError, match="File exists"):
        write_atomic(tmp_path / "run.json", b"new")
    assert taken.read_text() == "somebody is writing this" and names(tmp_path) == [taken.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "c"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(InputError, match=r"cannot write .*/c: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["c"]


def test_the_folder_is_synced_after_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("folder" if os.path.samestat(os.fstat(handle), tmp_path.stat()) else "file")
        sync(handle)

    def replaced(old: Path, new: Path) -> None:
        done.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_atomic(tmp_path / "c", b"new")
    assert done == ["file", "name", "folder"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def files_alone(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), tmp_path.stat()):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(os, "fsync", files_alone)
    write_atomic(tmp_path / "c", b"new")
    assert (tmp_path / "c").read_bytes() == b"new"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """Who has put a link there wants the content where it points to."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    target, link = tmp_path / "disk" / "table.md", tmp_path / "run" / "table.md"
    target.write_text("old")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink() and target.read_text() == "new" and not target.is_symlink()
    assert names(tmp_path / "disk") == names(tmp_path / "run") == ["table.md"]
    target.unlink()
    write_atomic(link, b"again")
    assert target.read_text() == "again"


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.json" / "deep").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot write .*run\.json: Is a directory"):
        write_atomic(tmp_path / "run.json", b"{}")
    assert names(tmp_path) == ["run.json"]


def test_a_folder_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*gone/c: No such file"):
        write_atomic(tmp_path / "gone" / "c", b"", make_folder=False)
    assert names(tmp_path) == []


def test_what_the_block_raises_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "c") as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_left_overs_of_killed_processes_go_and_work_under_way_stays(tmp_path: Path) -> None:
    old, fresh, mine = (
        tmp_path / name for name in (f".{1:016x}.vlmprompt-part", f".{2:016x}.vlmprompt-part", ".a.tmp")
    )
    for file in (old, fresh, mine):
        file.write_text("")
    write_atomic(tmp_path / "c", b"")
    now = (tmp_path / "c").stat().st_mtime
    for file, age in ((old, ABANDONED_S + 60), (fresh, ABANDONED_S - 60), (mine, 10 * ABANDONED_S)):
        os.utime(file, (now - age, now - age))
    assert parts(tmp_path) and set(parts(tmp_path)) == {old, fresh}
    atomic.tidy(tmp_path / "c")
    assert names(tmp_path) == sorted([fresh.name, ".a.tmp", "c"])


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_what_is_no_file_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match=f"cannot write .*{name}: it is a named pipe, not a file"):
            write_atomic(tmp_path / name, b"new")
    assert names(tmp_path) == ["link", "pipe"] and (tmp_path / "pipe").is_fifo()


def test_who_writes_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for attempt in (
        lambda: probe(tmp_path / "file" / "a", "buy a disk"),
        lambda: write_atomic(tmp_path / "file" / "a", b"", hint="buy a disk"),
    ):
        with pytest.raises(InputError) as error:
            attempt()
        assert error.value.hint == "buy a disk"
