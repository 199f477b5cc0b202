"""One request, one server, one answer of bounded size and time."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.describe.clock import Clock
from tests.describe.material import order
from tests.describe.server import Behaviour, ChatServer, Handler, always_good, good, phrases, says, serving
from vlmprompt.describe.exchange import LARGEST_REPLY, NEVER_S, retry_after
from vlmprompt.describe.order import Summary
from vlmprompt.describe.service import describe_classes
from vlmprompt.errors import InputError

PATH = "/v1/chat/completions"


def completion(text: str, **more: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}], **more}).encode()


def sends(content: bytes, status: int = 200, **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(status, content, headers=named)


def redirects(location: str, status: int = 307) -> Behaviour:
    return lambda handler: handler.send(status, {}, headers={"location": location})


def described(server: ChatServer, **changes: object) -> Summary:
    return describe_classes(order(server.url, ["fox"], **{"max_retries": 0, **changes}))


def texts(summary: Summary) -> list[str]:
    return [line.text for line in summary.lines]


# -- redirects --------------------------------------------------------------------------------------
@pytest.fixture
def other() -> Iterator[ChatServer]:
    """A server that nobody has named."""
    with serving(always_good) as server:
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_other_server_gets_the_questions(here: Path, other: ChatServer, status: int) -> None:
    place = other.url.removesuffix("/v1")
    with (
        serving(lambda name, nth: redirects(f"{place}{PATH}?a=b", status)) as server,
        pytest.raises(InputError, match="redirects to another server") as caught,
    ):
        described(server)
    assert other.requests == [] and len(server.requests) == 1
    assert caught.value.message == f"127.0.0.1 redirects to another server, {place} ({status}), which was not asked"
    assert "--base-url" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://127.0.0.1/v1", "https://127.0.0.1"),
        ("//elsewhere.invalid/v1", "http://elsewhere.invalid"),
        ("http://user:pass@elsewhere.invalid:81/v1?key", "http://elsewhere.invalid:81"),
        ("ftp://elsewhere.invalid/", "ftp://elsewhere.invalid"),
    ],
)
def test_other_servers_of_all_kinds(here: Path, location: str, shown: str) -> None:
    with serving(lambda name, nth: redirects(location)) as server, pytest.raises(InputError) as caught:
        described(server)
    assert f"another server, {shown} (307)" in caught.value.message


def test_what_was_known_stays_where_a_redirect_stops(here: Path, other: ChatServer) -> None:
    names = [f"c{i}" for i in range(8)]
    with serving(lambda name, nth: good(name) if name == "c0" else redirects(other.url)) as server:
        summary = describe_classes(order(server.url, names, concurrency=1))
    assert texts(summary) == phrases("c0")
    assert "another server" in str(summary.stopped) and other.requests == []


def test_a_redirect_on_the_same_server_is_followed(here: Path) -> None:
    with serving(lambda name, nth: redirects("/other/chat/completions") if nth == 0 else good(name)) as server:
        summary = described(server)
    first, second = server.requests
    assert texts(summary) == phrases("fox") and first.body == second.body
    assert {line.source for line in summary.lines} == {"127.0.0.1"}


def test_a_circle_of_redirects_ends(here: Path) -> None:
    with (
        serving(lambda name, nth: redirects(PATH)) as server,
        pytest.raises(InputError, match="redirects more than 5 times"),
    ):
        described(server)
    assert len(server.requests) == 6


# -- size and time ------------------------------------------------------------------------------------
def without_end(status: int) -> Behaviour:
    """Sends until nobody listens."""

    def behave(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(1 << 40))
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    return behave


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_without_end_is_broken_off(here: Path, status: int) -> None:
    with serving(lambda name, nth: without_end(status)) as server:
        (failure,) = described(server).failed
    assert failure.reason == "the server sent more than 1,048,576 bytes in one answer: broken off there"
    assert len(server.requests) == 1


def test_the_bound_counts_what_was_compressed(here: Path) -> None:
    """A small answer that unpacks to a large one is a large one."""
    with serving(lambda name, nth: sends(gzip.compress(bytes(LARGEST_REPLY + 1)), content_encoding="gzip")) as server:
        assert "more than 1,048,576 bytes" in described(server).failed[0].reason
        server.script = lambda name, nth: sends(gzip.compress(completion("- a\n- b")), content_encoding="gzip")
        assert texts(described(server)) == ["a", "b"]


def test_an_answer_that_drips_ends_with_the_time(here: Path, clock: Clock) -> None:
    """The whole request has so much time, not each byte; the server notices that nobody listens any more."""
    noticed = threading.Event()

    def drips(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        handler.wfile.write(b" ")
        clock.run_out()
        try:
            while True:
                handler.wfile.write(b" ")
                noticed.wait(0.01)
        except OSError:
            noticed.set()

    with serving(lambda name, nth: drips) as server:
        (failure,) = described(server, timeout_s=0.2).failed
        assert noticed.wait(60)
    assert failure.reason == "no answer within 0.2 s"


@pytest.mark.parametrize("text", ["word " * 20_000, "w" * 100_000, "- " * 50_000 + "a tail"])
def test_a_long_answer_is_read(here: Path, text: str) -> None:
    """In the time that it takes to look at it a few times; and again from the cache."""
    with serving(lambda name, nth: says(text)) as server:
        first = described(server)
        again = described(server, out=Path("b"))
    assert [line.text for line in first.lines] == [line.text for line in again.lines]
    assert (len(first.lines), again.spent.requests) == (1, 0)


def test_what_is_sent_back_for_repair_is_short(here: Path) -> None:
    with serving(lambda name, nth: says('["' + "x" * 100_000) if nth == 0 else good(name)) as server:
        assert texts(described(server)) == phrases("fox")
    _, earlier, _ = server.requests[1].body["messages"]
    assert earlier["content"] == '["' + "x" * 3998


# -- odd answers ----------------------------------------------------------------------------------------
ANSWER = completion("- a tail\n- ears")
READ: dict[str, Behaviour] = {
    "a charset that is none": sends(ANSWER, content_type="application/json; charset=zlib"),
    "a charset that raises": sends(ANSWER, content_type="application/json; charset=undefined"),
    "negative usage": sends(completion("- a tail\n- ears", usage={"prompt_tokens": -5, "completion_tokens": "7"})),
    "huge usage": sends(completion("- a tail\n- ears", usage={"prompt_tokens": 10**300, "completion_tokens": 1e300})),
    "usage of another kind": sends(completion("- a tail\n- ears", usage=[1])),
    "controls": sends(completion("- a\x1b tail\u202e\n- ears\x07\x9b")),
}
REFUSED: dict[str, tuple[Behaviour, str]] = {
    "deep": (sends(b'{"choices":' + b"[" * 100_000), "no chat completion"),
    "numbers without end": (sends(b'{"choices": ' + b"9" * 5000), "no chat completion"),
    "a surrogate": (sends(b'{"choices": [{"message": {"content": "- a \\ud800"}}]}'), "no chat completion"),
    "deep error": (sends(b"[" * 100_000, 400), "answers 400"),
    "error of numbers": (sends(b'{"error": {"message": ' + b"9" * 5000 + b"}}", 400), "answers 400"),
    "error of lists": (sends(b'{"error": {"message": ["a"], "code": ["x"], "param": {"a": 1}}}', 400), "answers 400"),
    "error charset": (sends(b"x", 500, content_type="text/html; charset=undefined"), "answers 500"),
    "controls": (sends(b'{"error": {"message": "\\u001b[31m\\u202ered\\u0007"}}', 400), "answers 400 ([31mred)"),
    "no HTTP": (lambda handler: handler.connection.sendall(b"\x1b[31m\r\n\r\n"), "broke: illegal status line"),
    "damaged gzip": (sends(b"xxxx", content_encoding="gzip"), "broke: Error -3 while decompressing"),
    "a place that is none": (redirects("http://[::1"), "answers 307"),
    "not modified": (sends(b"", 304), "answers 304"),
}


@pytest.mark.parametrize("behaviour", READ.values(), ids=READ.keys())
def test_odd_answers_that_can_be_read(here: Path, behaviour: Behaviour) -> None:
    with serving(lambda name, nth: behaviour) as server:
        summary = described(server)
    assert texts(summary) == ["a tail", "ears"]
    assert (summary.spent.prompt_tokens, summary.spent.completion_tokens) == (0, 0)


@pytest.mark.parametrize(("behaviour", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_odd_answers_that_cannot(here: Path, behaviour: Behaviour, reason: str) -> None:
    with serving(lambda name, nth: behaviour) as server:
        (failure,) = described(server).failed
    assert reason in failure.reason and failure.reason.isprintable()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "1e308"}, NEVER_S),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "inf"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -9999"}, None),
        ({"retry-after": format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)}, 0.0),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
