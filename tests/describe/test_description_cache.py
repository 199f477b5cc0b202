"""The cache: text only, whatever its file holds; shared by threads and processes; whole after kill -9."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import diskcache.core
import pytest
from diskcache import Cache

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
