"""The results file: what survives kills, reruns and two writers."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import threading
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_rows import row

from vlmprompt.claims.claim import turn
from vlmprompt.errors import InputError
from vlmprompt.results.store import EVERYTHING, ResultStore, current, finished


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [row(value=0.1 + 0.2), row(metric="top5", value=1.0), row(seed=None, shots=None, note="Zürich\nline")]
    store = ResultStore(tmp_path / "deep" / "results.jsonl")
    store.append(rows[:1])
    store.append(rows[1:])
    assert store.read().rows == tuple(rows)
    assert store.read().warning is None
    assert len((tmp_path / "deep" / "results.jsonl").read_text().splitlines()) == 3


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert ResultStore(tmp_path / "results.jsonl").read().rows == ()


def test_the_latest_of_a_key_and_metric_wins(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl")
    store.append([row(key="a", value=0.1), row(key="a", metric="top5", value=0.2), row(key="b", value=0.3)])
    store.append([row(key="a", value=0.9)])
    assert [(r.key, r.metric, r.value) for r in store.read().rows] == [
        ("a", "top1", 0.9),
        ("a", "top5", 0.2),
        ("b", "top1", 0.3),
    ]


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_write_cut_anywhere_loses_only_its_own_row(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "results.jsonl"
    store = ResultStore(path)
    store.append([row(key="kept")])
    whole = path.stat().st_size
    store.append([row(key="torn", note="é" * 20)])
    size = whole + cut % (path.stat().st_size - whole - 1)
    with path.open("r+b") as file:
        file.truncate(size)
    loaded = store.read()
    assert [r.key for r in loaded.rows] == ["kept"]
    assert (loaded.warning is None) == (size == whole)
    if loaded.warning:
        assert str(path) in loaded.warning
    store.append([row(key="next")])
    assert [r.key for r in store.read().rows] == ["kept", "next"]
    assert store.read().warning is None


def test_a_file_that_is_one_torn_line_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"run": "r", "met')
    ResultStore(path).append([row(key="a")])
    assert [r.key for r in ResultStore(path).read().rows] == ["a"]


@pytest.mark.parametrize("line", ["null", '{"run": "r"}', json.dumps(row().model_dump() | {"extra": 1})])
def test_a_line_of_something_else_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    store = ResultStore(path)
    store.append([row()])
    with path.open("a") as file:
        file.write(line + "\n")
    store.append([row()])
    with pytest.raises(InputError, match=r"line 2 of .*results\.jsonl is no result row"):
        store.read()


def lines_of(*keys: str) -> list[bytes]:
    return [f"{row(key=key).model_dump_json()}\n".encode() for key in keys]


@pytest.mark.parametrize(
    "damage",
    [
        lines_of("torn")[0][:40] + b"\n",
        lines_of("torn")[0][40:],
        b"\0" * 4096 + b"\n",
        b"not json\n",
        b'{"run":"\xff\xfe"}\n',
        b'{"run":' + b"[" * 10_000 + b"\n",
        b'{"run":' + b"9" * 10_000 + b"}\n",
    ],
    ids=["its end lost", "its beginning lost", "nul", "words", "bytes", "deep", "digits"],
)
def test_a_damaged_line_loses_no_other(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "results.jsonl"
    first, second = lines_of("a", "b")
    path.write_bytes(first + damage + second)
    store = ResultStore(path)
    loaded = store.read()
    assert [r.key for r in loaded.rows] == ["a", "b"]
    assert loaded.warning is not None and loaded.warning.startswith(f"line 2 of {path} is damaged and was left out")
    ResultStore(path).append([row(key="c")])
    assert path.read_bytes() == first + damage + second + lines_of("c")[0]


def test_many_damaged_lines_and_a_torn_last_one_are_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"{\n" * 7 + lines_of("a")[0] + b'{"ru')
    assert ResultStore(path).read().warning == (
        f"lines 1, 2, 3, 4, 5, ... of {path} are damaged and were left out; evaluating again measures what is missing; "
        f"the last line of {path} is incomplete and was left out"
    )


def test_what_an_editor_does_to_the_file_is_no_damage(tmp_path: Path) -> None:
    """A byte-order mark, Windows line ends, no line break at the end; the same with what a power cut leaves."""
    path = tmp_path / "results.jsonl"
    first, second = lines_of("a", "b")
    for content in (
        b"\xef\xbb\xbf" + first + second,
        first.replace(b"\n", b"\r\n") + b"\r\n" + second.replace(b"\n", b"\r\n"),
        first + second.rstrip(b"\n"),
        first + b"\0" * 512 + second,
    ):
        path.write_bytes(content)
        loaded = ResultStore(path).read()
        assert ([r.key for r in loaded.rows], loaded.warning) == (["a", "b"], None)
        ResultStore(path).append([row(key="c")])
        assert [r.key for r in ResultStore(path).read().rows] == ["a", "b", "c"]
    path.write_bytes(b"\xef\xbb\xbf")
    ResultStore(path).append([row(key="c")])
    assert [r.key for r in ResultStore(path).read().rows] == ["c"]


def test_a_tail_of_nul_bytes_is_cut_off_before_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    (first,) = lines_of("a")
    path.write_bytes(first + b"\0" * 4096)
    assert "incomplete" in str(ResultStore(path).read().warning)
    ResultStore(path).append([row(key="c")])
    assert path.read_bytes() == first + lines_of("c")[0]


@pytest.mark.parametrize(
    "content", [b"my notes\n", b"my notes", b"\xff\xfe{\0", b'{"mine": 1}\n', b'{"mine": 1}', b"[1,\n2]"]
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"results\.jsonl (holds no results|is no result row)"):
        ResultStore(path).append([row()])
    with pytest.raises(InputError, match=r"results\.jsonl (holds no results|is no result row)"):
        ResultStore(path).read()
    assert path.read_bytes() == content


def test_a_full_disk_is_named_and_loses_nothing_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    ResultStore(path).append([row(key="a")])

    def full(file: FileIO, data: bytes) -> None:
        file.write(data[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(InputError, match=r"cannot write results to .*No space left"):
        patched.setattr("vlmprompt.results.store._write_all", full)
        ResultStore(path).append([row(key="b")])
    assert [r.key for r in ResultStore(path).read().rows] == ["a"]
    ResultStore(path).append([row(key="b")])
    assert path.read_bytes() == b"".join(lines_of("a", "b"))


@pytest.mark.parametrize("fitting", [1, 2])
def test_of_rows_that_belong_together_a_full_disk_leaves_none(
    fitting: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = tmp_path / "results.jsonl", b"".join(lines_of("a"))
    ResultStore(path).append([row(key="a")])
    rows = [row(key=key) for key in "bcd"]

    def full(file: FileIO, data: bytes) -> None:
        file.write(b"".join(lines_of(*"bcd"[:fitting])) + data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(InputError, match="No space left"):
        patched.setattr("vlmprompt.results.store._write_all", full)
        ResultStore(path).append(rows)
    assert path.read_bytes() == first
    ResultStore(path).append(rows)
    assert path.read_bytes() == first + b"".join(lines_of(*"bcd"))


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    store = ResultStore(tmp_path / "results.jsonl")
    with pytest.raises(InputError, match=r"results\.jsonl: Is a directory"):
        store.read()
    with pytest.raises(InputError, match=r"results\.jsonl: Is a directory"):
        store.append([row()])


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write results to .*file/results\.jsonl") as caught:
        ResultStore(tmp_path / "file" / "results.jsonl").append([row()])
    assert caught.value.hint
    with pytest.raises(InputError, match="cannot read results"):
        ResultStore(tmp_path).read()


def _write(path: Path, writer: int) -> None:
    store = ResultStore(path)
    for i in range(50):
        store.append([row(key=f"{writer}-{i}", note="x" * 500)])


def test_two_processes_may_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, i)) for i in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {r.key for r in ResultStore(path).read().rows} == {f"{w}-{i}" for w in range(2) for i in range(50)}


def test_nan_and_infinity_are_never_written(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl")
    store.append([row(value=math.nan), row(metric="top5", value=math.inf)])
    assert [(r.value, r.status) for r in store.read().rows] == [(None, "failed")] * 2
    assert "NaN" not in store.path.read_text()


def test_current_keeps_what_still_holds() -> None:
    old, new = row(key="a", value=0.1), row(key="b", value=0.2)
    other = row(run="other", value=0.3)
    assert current([old, other, new]) == [new, other]


def test_a_row_that_is_stored_again_as_it_was_holds_again(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl")
    measured, failed = row(key="a"), row(key="b", status="failed", value=None)
    store.append([measured, failed])
    assert current(store.read().rows) == [failed]
    store.append([measured])
    assert current(store.read().rows) == [measured]


def test_a_failed_training_gives_way_to_what_was_measured_later() -> None:
    failure = row(cell=EVERYTHING, metric=EVERYTHING, status="failed", value=None)
    measured, elsewhere = row(), row(suite="few-shot")
    assert current([failure, measured]) == [measured]
    assert current([failure, elsewhere]) == [failure, elsewhere]
    assert current([failure]) == [failure]


def test_a_failure_that_nobody_asks_for_any_more_is_gone() -> None:
    """A mistyped domain failed; the next call names another. One that is asked for again stays."""
    wrong = row(cell="typo", value=None, status="failed", listing="typo")
    assert current([wrong, row(cell="right", listing="right")]) == [row(cell="right", listing="right")]
    both = [row(cell="typo", value=None, status="failed", listing="both"), row(cell="right", listing="both")]
    assert current(both) == both
    measured = row(cell="old", listing="old")
    assert current([measured, *both]) == [measured, *both]


def test_finished_means_that_every_metric_is_there() -> None:
    top1, top5 = row(), row(metric="top5", status="not_applicable", value=None)
    assert finished([top1, top5], ["top1", "top5"])
    assert not finished([top1], ["top1", "top5"])
    assert not finished([top1, row(metric="top5", status="failed", value=None)], ["top1", "top5"])
    assert not finished([], ["top1"])


def test_whoever_finds_a_line_half_written_waits_for_it(tmp_path: Path) -> None:
    """It may be another process's that is writing it: who cuts it off has the file to himself first."""
    path = tmp_path / "results.jsonl"
    inside, cut = threading.Event(), threading.Event()

    def write_in_two_parts() -> None:
        with turn(tmp_path, "append", "appending"):
            line = row(key="slow").model_dump_json().encode() + b"\n"
            with path.open("ab", buffering=0) as file:
                file.write(line[:50])
                inside.set()
                assert not cut.wait(timeout=0)
                file.write(line[50:])

    def append() -> None:
        inside.wait()
        ResultStore(path).append([row(key="quick")])
        cut.set()

    threads = [threading.Thread(target=task) for task in (write_in_two_parts, append)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [r.key for r in ResultStore(path).read().rows] == ["slow", "quick"]
    assert [p.name for p in tmp_path.iterdir()] == ["results.jsonl"]


def test_line_numbers_count_from_the_beginning(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl")
    store.append([row(), row(metric="top5")])
    end = store.read().end
    with store.path.open("a") as file:
        file.write("cut off\n")
    assert "line 3 of" in str(store.read(end).warning)
    with store.path.open("a") as file:
        file.write('{"of": "something else"}\n')
    with pytest.raises(InputError, match="line 4 of"):
        store.read(end)
