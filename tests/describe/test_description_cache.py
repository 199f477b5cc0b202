"""The cache: text only, whatever its file holds; shared by threads and processes; whole after kill -9."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import diskcache.core
import pytest
from diskcache import Cache

from vlmprompt.describe import database
from vlmprompt.describe.cache import CLAIM, REPLY, DescriptionCache, cache_folder
from vlmprompt.describe.database import TextDisk
from vlmprompt.errors import InputError


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DescriptionCache]:
    with closing(DescriptionCache(tmp_path / "cache" / "descriptions")) as opened:
        yield opened


class Bomb:
    """What runs when it is un-pickled."""

    exploded = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return setattr, (Bomb, "exploded", True)


def plant(
    cache: DescriptionCache, key: str, value: object, *, raw: int = 1, mode: int, filename: str | None = None
) -> None:
    """Put a row where only somebody else would."""
    with closing(sqlite3.connect(cache.folder / "cache.db")) as connection, connection:
        connection.execute("DELETE FROM Cache WHERE key = ?", (key,))
        connection.execute(
            "INSERT INTO Cache (key, raw, store_time, access_time, mode, filename, value) VALUES (?, ?, 0, 0, ?, ?, ?)",
            (key, raw, mode, filename, value),
        )


def test_text_in_text_out(cache: DescriptionCache) -> None:
    assert cache.get("a") is None
    long = "ä\u2028\n" * 50_000  # diskcache would put this into a file
    cache.put("a", "one")
    cache.put("b", long)
    cache.put("a", "two")
    assert (cache.get("a"), cache.get("b")) == ("two", long)
    assert list(cache.items()) == [("a", "two"), ("b", long)]
    assert {path.name.split("-")[0] for path in cache.folder.iterdir()} == {"cache.db"}


def test_it_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / "descriptions"
    old = os.umask(0o022)
    try:
        DescriptionCache(cache_folder()).close()
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(folder.stat().st_mode) for folder in (cache_folder(), cache_folder().parent)}
    assert modes == {0o700}


def test_nothing_but_text_is_stored(cache: DescriptionCache) -> None:
    disk = TextDisk(str(cache.folder))
    for value in (Bomb(), b"bytes", 1, 1.5, None, ("a",)):
        with pytest.raises(TypeError, match="text"):
            disk.store(value, False)
        with pytest.raises(TypeError, match="text"):
            disk.put(value)
    with pytest.raises(TypeError):
        disk.store("a file", True)


@pytest.mark.parametrize("mode", [0, 2, 3, 4])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_planted_row_is_refused_and_the_rest_served(cache: DescriptionCache, mode: int, in_file: bool) -> None:
    """diskcache itself would run it: that is checked first, so that this test can fail."""
    bomb = pickle.dumps(Bomb())
    (cache.folder / "bomb.val").write_bytes(bomb)
    plant(cache, REPLY + "bad", None if in_file else bomb, mode=mode, filename="bomb.val" if in_file else None)
    cache.put("good", "fine")
    if mode == 4:
        with closing(Cache(str(cache.folder))) as careless:
            Bomb.exploded = False
            careless.get(REPLY + "bad")
            assert Bomb.exploded
    Bomb.exploded = False
    assert (cache.get("bad"), cache.get("good")) == (None, "fine")
    assert cache.refused == {"bad"}
    assert list(cache.items()) == [("good", "fine")]
    assert cache.foreign() == 1
    cache.put("bad", "asked again")
    assert (cache.get("bad"), cache.foreign()) == ("asked again", 0)
    assert not Bomb.exploded
    assert (cache.folder / "bomb.val").exists()  # nor does a row get a file deleted


def test_planted_keys_and_claims_are_refused_too(cache: DescriptionCache) -> None:
    bomb = pickle.dumps(Bomb())
    plant(cache, bomb, "text", raw=0, mode=1)  # type: ignore[arg-type]
    plant(cache, CLAIM + "a", bomb, mode=4)
    cache.put("b", "fine")
    Bomb.exploded = False
    assert cache.claim("a", seconds=9)
    assert list(cache.items()) == [("b", "fine")]
    assert cache.foreign() == 1
    assert cache.discard_foreign() == 1
    assert cache.foreign() == 0 and not Bomb.exploded


def test_what_is_no_cache_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "descriptions"
    folder.mkdir()
    (folder / "cache.db").write_bytes(b"this is no database, and long enough to look like one " * 40)
    with pytest.raises(InputError, match="holds no usable cache") as caught:
        DescriptionCache(folder)
    assert str(folder) in caught.value.message
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot use the cache"):
        DescriptionCache(tmp_path / "file" / "descriptions")
    if hasattr(os, "mkfifo"):
        (folder / "cache.db").unlink()
        os.mkfifo(folder / "cache.db")
        with pytest.raises(InputError, match=r"cache\.db: it is a named pipe, not a file"):
            DescriptionCache(folder)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), r"is empty \(0 bytes\): the answers that were in it are lost"),
    "garbage": (lambda file: file.write_bytes(bytes(range(256)) * 99), "file is not a database"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:5000]), "is malformed"),
    "overwritten": (lambda file: file.write_bytes(file.read_bytes()[:100] + bytes(20_000)), "is malformed"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "cache.db: Is a directory"),
    "a circle": (lambda file: (file.unlink(), file.symlink_to(file)), "unable to open database file"),
    "no answers": (lambda file: change(file, "DROP TABLE Cache"), "has no table Cache"),
    "no settings": (lambda file: change(file, "DROP TABLE Settings"), "has no table Settings"),
    "strange": (lambda file: change(file, "INSERT INTO Settings VALUES ('disk_fetch', 'x')"), "setting 'disk_fetch'"),
    "other": (lambda file: change(file, "DROP TABLE Cache", "CREATE TABLE Cache (a)"), "no such column"),
}


def change(file: Path, *statements: str) -> None:
    """Change a database as somebody else would."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_cache_is_named_and_nothing_asked_again(
    cache: DescriptionCache, damage: Callable[[Path], object], message: str
) -> None:
    cache.put("a", "paid for")
    cache.close()
    damage(cache.folder / "cache.db")
    with pytest.raises(InputError, match=message) as caught:
        list(DescriptionCache(cache.folder).items())
    assert str(cache.folder) in caught.value.message
    assert "paid, again" in str(caught.value.hint)


def test_a_new_cache_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process ever sees an empty file; and where two are first, the answers of one are not lost."""
    seen: list[int] = []

    def link(new: Path, old: Path) -> None:
        seen.append(old.stat().st_size)
        with closing(sqlite3.connect(old)) as connection:
            assert connection.execute("SELECT count(*) FROM Cache").fetchone() == (0,)
        shutil.copy(old, new)  # the other process
        raise FileExistsError

    monkeypatch.setattr(Path, "hardlink_to", link)
    with closing(DescriptionCache(tmp_path / "cache")) as cache:
        cache.put("a", "text")
        assert cache.get("a") == "text"
    assert len(seen) == 1 and seen[0] > 0
    assert {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()} == {"cache.db"}


def test_without_links_it_is_made_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", lambda new, old: os.link(old, tmp_path / "no" / "such folder"))
    with closing(DescriptionCache(tmp_path / "cache")) as cache:
        cache.put("a", "text")
        assert cache.get("a") == "text"


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_locked_cache_is_named(cache: DescriptionCache, monkeypatch: pytest.MonkeyPatch, lock: str) -> None:
    """Whether it is locked when it is opened, or later."""
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.01)
    cache.put("a", "text")
    with (
        closing(DescriptionCache(cache.folder)) as open_before,
        closing(sqlite3.connect(cache.folder / "cache.db", isolation_level=None)) as other,
    ):
        other.execute(lock)
        uses: list[Callable[[], object]] = [
            lambda: DescriptionCache(cache.folder),
            lambda: open_before.put("b", "text"),
            lambda: open_before.claim("b", seconds=9),
            lambda: open_before.renew("b", seconds=9),
            lambda: open_before.release("b"),
            lambda: open_before.discard(["a"]),
            lambda: open_before.discard_foreign(),
        ]
        for use in uses:
            with pytest.raises(InputError, match=r"has been locked by another process for more than 0\.01 s") as caught:
                use()
            assert str(cache.folder) in caught.value.message and "wait until" in str(caught.value.hint)
        other.execute("ROLLBACK")
        assert open_before.get("a") == "text"


def test_a_text_that_is_none_is_refused_and_replaced(cache: DescriptionCache) -> None:
    cache.put("a", "text")
    cache.put("b", "fine")
    change(cache.folder / "cache.db", "UPDATE Cache SET value = CAST(x'ff00ff' AS TEXT) WHERE key = 'reply:a'")
    assert (cache.get("a"), cache.get("b"), cache.refused) == (None, "fine", {"a"})
    assert [key for key, _ in cache.items()] == ["a", "b"]
    cache.put("a", "again")
    assert cache.get("a") == "again"


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Homes and variables are resolved once, and not by one of two libraries."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("A_PLACE", "place")
    for named in ("~/$A_PLACE", f"{tmp_path}/${{A_PLACE}}"):
        monkeypatch.setenv("VLMPROMPT_CACHE_DIR", named)
        assert cache_folder() == tmp_path / "place" / "descriptions"
    DescriptionCache(cache_folder()).close()
    assert (tmp_path / "place/descriptions/cache.db").is_file()
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", "~nobody-at-all/x")
    with pytest.raises(InputError, match="VLMPROMPT_CACHE_DIR is '~nobody-at-all/x'"):
        cache_folder()


def test_a_claim_is_for_one(cache: DescriptionCache) -> None:
    with closing(DescriptionCache(cache.folder)) as other:
        assert cache.claim("a", seconds=60)
        assert not other.claim("a", seconds=60)
        assert other.claim("b", seconds=60)
        cache.release("a")
        assert other.claim("a", seconds=60)
        other.put("a", "answer")
        other.release("a")
        assert not cache.claim("a", seconds=60)  # it is there
        assert cache.get("a") == "answer"


def test_a_claim_expires_unless_it_is_renewed(cache: DescriptionCache, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(diskcache.core, "time", SimpleNamespace(time=lambda: now))
    with closing(DescriptionCache(cache.folder)) as other:
        for key in ("left", "kept"):
            assert cache.claim(key, seconds=5)
        now = 1004.0
        cache.renew("kept", seconds=60)
        assert not other.claim("left", seconds=60)
        now = 1006.0
        assert other.claim("left", seconds=60)
        assert not other.claim("kept", seconds=60)


def test_a_dead_process_holds_no_claim(cache: DescriptionCache) -> None:
    code = f"""
from pathlib import Path
from vlmprompt.describe.cache import DescriptionCache
print(DescriptionCache(Path({str(cache.folder)!r})).claim("a", seconds=3600), flush=True)
input()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert not cache.claim("a", seconds=60)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert cache.claim("a", seconds=60)


def test_many_threads_share_it(cache: DescriptionCache) -> None:
    """Every key is claimed by exactly one of eight threads, and every answer is there afterwards."""
    won: list[str] = []

    def work(number: int) -> None:
        with closing(DescriptionCache(cache.folder)) as own:
            for i in range(40):
                if own.claim(f"k{i}", seconds=60):
                    won.append(f"k{i}")
                    own.put(f"k{i}", f"answer {i}")
                    own.release(f"k{i}")
                cache.get(f"k{(i + number) % 40}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"k{i}" for i in range(40))
    assert dict(cache.items()) == {f"k{i}": f"answer {i}" for i in range(40)}


def test_kill_9_loses_nothing_that_was_stored(cache: DescriptionCache) -> None:
    """Killed at a random moment again and again, each time in the middle of storing."""
    code = f"""
from pathlib import Path
from vlmprompt.describe.cache import DescriptionCache
cache = DescriptionCache(Path({str(cache.folder)!r}))
i = 0
while True:
    cache.put(f"k{{i}}", "text " * 3000 + str(i))
    print(i, flush=True)
    i += 1
"""
    for stored in (1, 5, 12):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(stored)]
        writer.send_signal(signal.SIGKILL)
        said += writer.communicate()[0].split()
        last = max(int(number) for number in said if number.strip().isdigit())
        assert cache.damage() == []
        found = dict(cache.items())
        for i in range(last + 1):
            assert found[f"k{i}"] == "text " * 3000 + str(i)
        cache.discard(list(found))
