"""What is done: before, since, by whomever."""

from __future__ import annotations

from pathlib import Path

import pytest
from result_rows import row

from vlmprompt.results.ledger import Ledger
from vlmprompt.results.store import ResultStore


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results.jsonl")


def test_what_was_there_need_not_be_done_again(store: ResultStore) -> None:
    store.append([row(key="a"), row(key="b", metric="top5")])
    ledger = Ledger(store)
    assert ledger.rows("a", ["top1"]) == [row(key="a")]
    assert ledger.was_there("a")
    assert ledger.rows("b", ["top1", "top5"]) is None
    assert ledger.rows("c", ["top1"]) is None


def test_what_others_append_is_seen_after_a_refresh(store: ResultStore) -> None:
    store.append([row(key="a")])
    ledger = Ledger(store)
    ResultStore(store.path).append([row(key="b", value=0.25)])
    assert ledger.rows("b", ["top1"]) is None
    ledger.refresh()
    assert ledger.rows("b", ["top1"]) == [row(key="b", value=0.25)]
    assert not ledger.was_there("b")
    assert ledger.was_there("a")


def test_a_failure_is_tried_again_once_by_whoever_comes_first(store: ResultStore) -> None:
    failed = row(key="a", status="failed", value=None)
    store.append([failed])
    one, other = Ledger(store), Ledger(store)
    assert one.rows("a", ["top1"]) is None
    one.append([failed])  # tried, and failed in the same way
    other.refresh()
    assert one.rows("a", ["top1"]) == other.rows("a", ["top1"]) == [failed]
    assert Ledger(store).rows("a", ["top1"]) is None  # a later command tries again


def test_fresh_means_that_nothing_was_there(store: ResultStore) -> None:
    store.append([row(key="a", value=0.1)])
    ledger = Ledger(store, fresh=True)
    assert ledger.rows("a", ["top1"]) is None
    ledger.append([row(key="a", value=0.9)])
    assert ledger.rows("a", ["top1"]) == [row(key="a", value=0.9)]


def test_a_line_is_taken_when_it_is_whole(store: ResultStore) -> None:
    """Another process may be in the middle of writing it, or have died there."""
    store.append([row(key="a")])
    ledger = Ledger(store)
    line = row(key="b").model_dump_json().encode()
    with store.path.open("ab") as file:
        file.write(line[:40])
    ledger.refresh()
    assert ledger.rows("b", ["top1"]) is None
    with store.path.open("ab") as file:
        file.write(line[40:] + b"\n")
    ledger.refresh()
    assert ledger.rows("b", ["top1"]) == [row(key="b")]


def test_a_torn_line_that_another_process_cuts_off(store: ResultStore) -> None:
    store.append([row(key="a")])
    with store.path.open("ab") as file:
        file.write(b'{"run": "half')
    ledger = Ledger(store)
    assert ledger.warning is not None
    ResultStore(store.path).append([row(key="b")])
    ledger.refresh()
    assert ledger.rows("b", ["top1"]) == [row(key="b")]


def test_a_file_that_was_replaced_is_read_anew(store: ResultStore) -> None:
    store.append([row(key="a"), row(key="b")])
    ledger = Ledger(store)
    store.path.unlink()
    store.append([row(key="c")])
    ledger.refresh()
    assert ledger.rows("c", ["top1"]) == [row(key="c")]
