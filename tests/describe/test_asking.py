"""Each fault of a server by itself: what is asked again, how often, and what is said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.describe.clock import Clock
from tests.describe.material import KEY, order
from tests.describe.server import (
    Behaviour,
    ChatServer,
    Handler,
    always_good,
    drops,
    fails,
    good,
    html,
    phrases,
    says,
    serving,
    silent,
    stops_halfway,
    torn,
)
from vlmprompt.describe import exchange
from vlmprompt.describe.asking import Asker, Limits
from vlmprompt.describe.order import Summary
from vlmprompt.describe.provider import RequestError
from vlmprompt.describe.service import describe_classes
from vlmprompt.errors import InputError
from vlmprompt.progress import SilentProgress

RETRIED: dict[str, Behaviour] = {
    "rate limit": fails(429, "slow down"),
    "rate limit with a wait": fails(429, "slow down", headers={"retry-after": "0.01"}),
    "rate limit in ms": fails(429, "slow down", headers={"retry-after-ms": "5"}),
    "500": fails(500),
    "503 of a proxy": html(503),
    "408": fails(408),
    "dropped": drops,
    "half an answer": stops_halfway,
    "a server that says so": fails(400, headers={"x-should-retry": "true"}),
}
REPAIRED: dict[str, Behaviour] = {
    "refusal": says("", refusal="I will not."),
    "refusal in words": says("I'm sorry, but I cannot help."),
    "content filter": says("", finish="content_filter"),
    "empty": says(""),
    "null": says(None),
    "truncated": says("- a long li", finish="length"),
    "malformed JSON": says('{"descriptions": ["a tail", "two'),
    "HTML": html(),
    "torn completion": torn,
    "no choices": lambda handler: handler.send(200, {"choices": []}),
    "prose": says("..."),
}


def described(server: ChatServer, *names: str, **changes: object) -> Summary:
    return describe_classes(order(server.url, names, **changes))


def texts(summary: Summary) -> list[str]:
    return [line.text for line in summary.lines]


@pytest.mark.parametrize("fault", RETRIED.values(), ids=RETRIED.keys())
def test_a_fault_that_passes_is_asked_through(here: Path, fault: Behaviour) -> None:
    with serving(lambda name, nth: fault if nth < 2 else good(name)) as server:
        summary = described(server, "fox")
    assert texts(summary) == phrases("fox")
    assert (summary.described, summary.failed) == (1, ())
    assert summary.spent.requests == len(server.requests) == 3
    # The same question each time.
    assert all(request.body == server.requests[0].body for request in server.requests)


@pytest.mark.parametrize("fault", RETRIED.values(), ids=RETRIED.keys())
def test_a_fault_that_stays_ends_within_the_bound(here: Path, fault: Behaviour) -> None:
    script: Callable[[str, int], Behaviour] = lambda name, nth: fault if name == "fox" else good(name)  # noqa: E731
    with serving(script) as server:
        summary = described(server, "fox", "frog", max_retries=3)
    assert server.count("fox") == 1 + 3
    assert texts(summary) == phrases("frog")
    (failure,) = summary.failed
    assert (failure.class_index, failure.name) == (0, "fox")
    assert failure.reason


def test_a_server_that_does_not_answer_is_asked_again(here: Path, clock: Clock) -> None:
    def too_late(handler: Handler) -> None:
        clock.run_out()
        silent(handler)

    with serving(lambda name, nth: good(name) if nth == 1 else too_late) as server:
        summary = described(server, "fox", timeout_s=0.5, max_retries=1)
        assert (texts(summary), server.count("fox")) == (phrases("fox"), 2)
        failed = described(server, "fox", timeout_s=0.1, max_retries=1, out=Path("b"), samples=2).failed
    assert failed[0].reason == "sample 1: no answer within 0.1 s"
    assert clock.allowed == [0.5, 0.5, 0.1, 0.1]


@pytest.mark.parametrize("fault", REPAIRED.values(), ids=REPAIRED.keys())
def test_an_answer_is_repaired_once(here: Path, fault: Behaviour) -> None:
    with serving(lambda name, nth: fault if nth == 0 else good(name)) as server:
        summary = described(server, "fox", max_retries=0)
    assert texts(summary) == phrases("fox")
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", REPAIRED.values(), ids=REPAIRED.keys())
def test_an_answer_that_cannot_be_repaired_is_reported(here: Path, fault: Behaviour) -> None:
    script: Callable[[str, int], Behaviour] = lambda name, nth: fault if name == "fox" else good(name)  # noqa: E731
    with serving(script) as server:
        summary = described(server, "fox", "frog")
        again = described(server, "fox", "frog")
    assert server.count("fox") == 2 + 2  # it was not stored as an answer
    assert server.count("frog") == 1
    assert [failure.name for failure in summary.failed] == ["fox"]
    assert texts(summary) == texts(again) == phrases("frog")
    assert (again.described, again.cached) == (1, 1)


def test_a_repair_shows_the_model_its_answer(here: Path) -> None:
    bad = '{"descriptions": ["a tail", "two'
    with serving(lambda name, nth: says(bad) if nth == 0 else good(name)) as server:
        described(server, "fox")
    first, second = (request.body["messages"] for request in server.requests)
    assert [m["role"] for m in second] == ["user", "assistant", "user"]
    assert second[:2] == [*first, {"role": "assistant", "content": bad}]
    assert "plain list" in second[2]["content"]


def test_faults_and_a_repair_share_the_bound(here: Path) -> None:
    """The most that one answer may cost: the first request, all retries, one repair."""
    script: Callable[[str, int], Behaviour] = lambda name, nth: says("") if nth == 2 else fails(500)  # noqa: E731
    with serving(script) as server:
        summary = described(server, "fox", max_retries=3)
    assert len(server.requests) == 1 + 3 + 1
    assert "500" in summary.failed[0].reason


def test_too_few_phrases_are_asked_for_again(here: Path) -> None:
    with serving(lambda name, nth: says("- a tail") if nth == 0 else good(name)) as server:
        summary = described(server, "fox", min_phrases=2)
        assert texts(summary) == phrases("fox")
        few = described(server, "frog", min_phrases=3, out=Path("b"))
    assert few.failed[0].reason == "2 of at least 3 phrases"
    assert few.described == 0


def test_a_rate_limit_holds_all_questions_back(here: Path, clock: Clock) -> None:
    """Retry-after is waited out to the end, by everybody."""
    script: Callable[[str, int], Behaviour] = (  # noqa: E731
        lambda name, nth: fails(429, headers={"retry-after": "0.3"}) if (name, nth) == ("c0", 0) else good(name)
    )
    with serving(script, clock=clock.monotonic) as server:
        summary = described(server, *(f"c{i}" for i in range(6)), concurrency=1)
    assert summary.described == 6
    assert [request.at for request in server.requests] == [0.0] + 6 * [0.3]


def test_a_wait_may_be_a_date(here: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    when = datetime(2030, 1, 1, 12, 0, 7, tzinfo=UTC)
    monkeypatch.setattr(exchange, "time", lambda: when.timestamp() - 7.0)
    fault = fails(503, headers={"retry-after": format_datetime(when, usegmt=True)})
    with serving(lambda name, nth: fault if nth == 0 else good(name)) as server:
        assert described(server, "fox").described == 1
    assert len(server.requests) == 2
    assert clock.slept == [7.0]


def test_a_long_wait_is_not_waited_for(here: Path) -> None:
    script: Callable[[str, int], Behaviour] = (  # noqa: E731
        lambda name, nth: good(name) if name == "c0" else fails(429, "come back later", headers={"retry-after": "3600"})
    )
    with serving(script) as server:
        summary = described(server, *(f"c{i}" for i in range(40)), concurrency=2)
    assert len(server.requests) <= 4
    assert summary.described == 1
    assert len(summary.failed) == 39
    assert "asks to wait 3600 s" in str(summary.stopped)
    assert summary.failed[-1].reason.startswith("not asked: ")


@pytest.mark.parametrize(
    ("rejection", "without"),
    [
        (fails(400, "Unsupported value: 'temperature'", param="temperature", code="unsupported_value"), "temperature"),
        (fails(422, "extra fields not permitted: response_format"), "response_format"),
        (fails(400, "json_schema is not supported here"), "response_format"),
    ],
)
def test_a_rejected_parameter_is_dropped_and_said_once(here: Path, rejection: Behaviour, without: str) -> None:
    def script(name: str, nth: int) -> Behaviour:
        return lambda handler: (rejection if without in handler.request_in.body else good(name))(handler)

    names = [f"c{i}" for i in range(12)]
    progress = SilentProgress()
    with serving(script) as server:
        summary = describe_classes(order(server.url, names, concurrency=3), progress=progress)
    assert summary.described == 12
    rejected = [request for request in server.requests if without in request.body]
    assert 1 <= len(rejected) <= 3
    assert len(server.requests) == 12 + len(rejected)
    assert progress.warnings == [f"127.0.0.1 rejects {without} for m-1: asked without it"]
    assert summary.notes == tuple(progress.warnings)


def test_every_parameter_may_be_rejected(here: Path) -> None:
    def script(name: str, nth: int) -> Behaviour:
        def behave(handler: object) -> None:
            body = handler.request_in.body  # type: ignore[attr-defined]
            extra = sorted(body.keys() - {"model", "messages"})
            (fails(400, f"unknown parameter {extra[0]}", param=extra[0]) if extra else good(name))(handler)  # type: ignore[arg-type]

        return behave

    options = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 50}
    with serving(script) as server:
        summary = describe_classes(order(server.url, ["fox"], options=options))
    assert texts(summary) == phrases("fox")
    assert len(summary.notes) == 5


def test_new_models_call_the_token_limit_otherwise(here: Path) -> None:
    def script(name: str, nth: int) -> Behaviour:
        text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        rejection = fails(400, text, param="max_tokens", code="unsupported_parameter")
        return lambda handler: (rejection if "max_tokens" in handler.request_in.body else good(name))(handler)

    with serving(script) as server:
        describe_classes(order(server.url, ["fox"], options={"max_tokens": 50}, max_retries=0))
    assert server.requests[1].body["max_completion_tokens"] == 50


@pytest.mark.parametrize(
    ("fault", "message", "hint"),
    [
        (fails(401, f"Incorrect API key provided: {KEY}"), r"refuses the key: 401 \(.*\[key\]\)", "OPENAI_API_KEY"),
        (fails(404, "no such model"), "knows no chat completions, or no model 'm-1': 404", "--model"),
        (fails(429, "You exceeded", code="insufficient_quota"), "quota is used up", "goes on from here"),
    ],
)
def test_what_can_never_work_stops_at_once(here: Path, fault: Behaviour, message: str, hint: str) -> None:
    with serving(lambda name, nth: fault) as server, pytest.raises(InputError, match=message) as caught:
        described(server, *(f"c{i}" for i in range(50)), concurrency=4)
    assert len(server.requests) <= 4
    assert hint in str(caught.value.hint)
    assert KEY not in f"{caught.value.message}{caught.value.hint}"
    assert not Path("prompts_cache").exists()


def test_a_server_that_only_fails_is_not_asked_forever(here: Path) -> None:
    with serving(lambda name, nth: fails(500)) as server, pytest.raises(InputError, match="in a row never came"):
        described(server, *(f"c{i}" for i in range(100)), concurrency=2, max_retries=1)
    assert len(server.requests) <= 2 * (16 + 2)


def test_a_stretch_of_lost_classes_is_no_dead_server(here: Path) -> None:
    names = [f"c{i}" for i in range(100)]
    lost = names[:40]
    with serving(lambda name, nth: fails(500) if name in lost else good(name)) as server:
        summary = described(server, *names, concurrency=4, max_retries=0)
    assert [failure.name for failure in summary.failed] == lost
    assert (summary.described, summary.stopped) == (60, None)


def test_a_dead_server_takes_nothing_that_is_known(here: Path) -> None:
    with serving(always_good) as server:
        described(server, "fox", "frog")
    summary = describe_classes(order(server.url, ("fox", "frog", "whale"), max_retries=0, out=Path("b")))
    assert summary.stopped is not None and [failure.name for failure in summary.failed] == ["whale"]
    assert (summary.described, summary.cached) == (2, 2)
    assert texts(summary) == phrases("fox") + phrases("frog")


def test_too_few_phrases_of_what_is_known_are_reported_not_paid_again(here: Path) -> None:
    with serving(always_good) as server:
        described(server, "fox")
        for out in (Path("prompts_cache"), Path("b")):  # in the file, and in the cache alone
            summary = described(server, "fox", min_phrases=5, out=out)
            assert summary.failed[0].reason.startswith("2 of at least 5 descriptions")
            assert (summary.described, summary.spent.requests) == (1, 0)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("key", "kept"), [("x", True), ("none", True), ("sk-a1", False), ("in-words", False)])
def test_short_keys_are_words_and_long_ones_secrets(
    here: Path, monkeypatch: pytest.MonkeyPatch, key: str, kept: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    said = f"an x-shaped mark, none of it {key} red"
    with serving(lambda name, nth: says(f"- a fox tail\n- {said}")) as server:
        found = texts(described(server, "fox"))
    assert found == ["a fox tail", said if kept else said.replace(key, "[key]")]


def test_answers_that_nobody_can_use_are_no_reason_to_stop(here: Path) -> None:
    """A model that refuses is heard: every class is asked, and named."""
    with serving(lambda name, nth: says("", refusal="no")) as server:
        summary = described(server, *(f"c{i}" for i in range(40)), concurrency=2)
    assert len(server.requests) == 80
    assert len(summary.failed) == 40 and summary.stopped is None


def test_a_rejected_question_is_not_asked_again(here: Path) -> None:
    script: Callable[[str, int], Behaviour] = (  # noqa: E731
        lambda name, nth: fails(400, "flagged by policy") if name == "fox" else good(name)
    )
    with serving(script) as server:
        summary = described(server, "fox", "frog")
    assert server.count("fox") == 1
    assert summary.failed[0].reason == "127.0.0.1 answers 400 (flagged by policy)"


def test_structure_is_asked_for_where_it_is_wanted(here: Path) -> None:
    with serving(lambda name, nth: good(name)) as server:
        described(server, "fox")
        options = {"structured": False, "temperature": None}
        summary = described(server, "frog", options=options, out=Path("b"))
    first, second = (request.body for request in server.requests)
    assert first["response_format"]["type"] == "json_schema"
    assert first["temperature"] == 0.7
    assert second.keys() == {"model", "messages"}
    assert texts(summary) == phrases("frog")


def test_an_answer_in_parts(here: Path) -> None:
    message = {
        "role": "assistant",
        "content": [{"type": "text", "text": "- a tail\n"}, {"type": "text", "text": "- ears"}],
    }
    with serving(lambda name, nth: lambda handler: handler.send(200, {"choices": [{"message": message}]})) as server:
        assert texts(described(server, "fox")) == ["a tail", "ears"]


def test_the_thousandth_wait_is_no_longer_than_the_longest() -> None:
    """However often it doubles."""
    limits = Limits(first_wait_s=0.001, longest_wait_s=0.002)
    asker = Asker(None, lambda reply: [], limits, random.Random(0))  # type: ignore[arg-type]
    asyncio.run(asker._wait(RequestError("no", retry=True), 5000))
