"""The results file: what survives kills, reruns and two writers."""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
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
    size = whole + cut % (path.stat().st_size - whole)
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


@pytest.mark.parametrize("line", ["not json", '{"run": "r"}', json.dumps(row().model_dump() | {"extra": 1})])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    store = ResultStore(path)
    store.append([row()])
    with path.open("a") as file:
        file.write(line + "\n")
    store.append([row()])
    with pytest.raises(InputError, match=r"line 2 of .*results\.jsonl is no result row"):
        store.read()


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


def test_a_failed_training_gives_way_to_what_was_measured_later() -> None:
    failure = row(cell=EVERYTHING, metric=EVERYTHING, status="failed", value=None)
    measured, elsewhere = row(), row(suite="few-shot")
    assert current([failure, measured]) == [measured]
    assert current([failure, elsewhere]) == [failure, elsewhere]
    assert current([failure]) == [failure]


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
        file.write("no row\n")
    with pytest.raises(InputError, match="line 3 of"):
        store.read(end)
