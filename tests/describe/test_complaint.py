"""What servers say in errors, in the shapes in which they are known to say it, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.describe.clock import Clock
from tests.describe.material import KEY, order
from tests.describe.server import Behaviour, ChatServer, fails, good, phrases, says, serving
from vlmprompt.describe.complaint import Complaint, complains, read_complaint
from vlmprompt.describe.order import Summary
from vlmprompt.describe.service import describe_classes
from vlmprompt.errors import InputError

INVALID = "API key not valid. Please pass a valid API key."
GEMINI = {
    "error": {
        "code": 400,
        "message": INVALID,
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    }
}
EXHAUSTED = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
    }
}
UPSTREAM = {
    "error": {
        "message": "Provider returned error",
        "code": 429,
        "metadata": {"raw": "some-model is temporarily rate-limited upstream", "provider_name": "Some"},
    }
}
NO_MODEL = "/chat/completions: Invalid model name passed in model=m-1."
FORMAT = "'response_format.type' must be 'json_schema' or 'text'"
# What a server sends -> what it says, and the status, parameter and wait in it.
SHAPES: dict[str, tuple[object, Complaint]] = {
    "OpenAI": (
        {"error": {"message": "Unsupported", "type": "invalid_request_error", "param": "top_p", "code": None}},
        Complaint("Unsupported", 0, "top_p"),
    ),
    "OpenAI, quota": (
        {"error": {"message": "Pay", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
        Complaint("Pay", 402),
    ),
    "LM Studio": ({"error": FORMAT}, Complaint(FORMAT)),
    "Ollama": (
        {"error": {"message": "model 'm' not found", "type": "not_found_error", "param": None, "code": None}},
        Complaint("model 'm' not found", 404),
    ),
    "Gemini": ([GEMINI], Complaint(f"{INVALID}; API_KEY_INVALID", 401)),
    "Gemini behind a gateway": (
        {"error": {"message": json.dumps(GEMINI), "code": 400, "status": "Bad Request"}},
        Complaint(f"{INVALID}; API_KEY_INVALID", 401),
    ),
    "Gemini, limited": ([EXHAUSTED], Complaint("You exceeded your current quota.", 429, "", 34.5)),
    "OpenRouter": (
        UPSTREAM,
        Complaint("Provider returned error; some-model is temporarily rate-limited upstream", 429),
    ),
    "OpenRouter, unpaid": (
        {"error": {"message": "Insufficient credits", "code": 402}},
        Complaint("Insufficient credits", 402),
    ),
    "LiteLLM": (
        {"error": {"message": NO_MODEL, "type": "None", "param": "None", "code": "400", "more": {"error": NO_MODEL}}},
        Complaint(NO_MODEL, 400),
    ),
    "vLLM": (
        {
            "object": "error",
            "message": "The model `m` does not exist.",
            "type": "NotFoundError",
            "param": None,
            "code": 404,
        },
        Complaint("The model `m` does not exist.", 404),
    ),
    "FastAPI": (
        {"detail": [{"loc": ["body", "temperature"], "msg": "not a number", "type": "value_error"}]},
        Complaint("body.temperature: not a number", 0, "temperature"),
    ),
    "FastAPI, a text": ({"detail": "Not authenticated"}, Complaint("Not authenticated")),
    "Cloudflare": (
        {"success": False, "errors": [{"code": 7003, "message": "Could not route"}], "result": None},
        Complaint("Could not route"),
    ),
    "Azure": ({"statusCode": 401, "message": "Access denied"}, Complaint("Access denied", 401)),
    "MiniMax": (
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        Complaint("login fail"),
    ),
    "Anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        Complaint("Overloaded", 503),
    ),
    "a choice": (
        {"choices": [{"error": {"code": 502, "message": "Upstream broke"}, "finish_reason": "error", "message": {}}]},
        Complaint("Upstream broke", 502),
    ),
    "a list of texts": (["No.", "Not at all."], Complaint("No.; Not at all.")),
    "a text": ("Unauthorized", Complaint("Unauthorized")),
    "nothing known": ({"oops": 1}, Complaint('{"oops": 1}')),
    "nothing": ("", Complaint("")),
    "a page": ("<html><head><title>502 Bad\nGateway</title></head></html>", Complaint("502 Bad Gateway")),
    "a page without a title": ("<html>Sign in</html>", Complaint("")),
}
PAGES = tuple(sent for name, (sent, _) in SHAPES.items() if "page" in name)
NO_COMPLAINTS = (["No.", "Not at all."], "Unauthorized", {"oops": 1}, "", *PAGES)


@pytest.mark.parametrize(("sent", "read"), SHAPES.values(), ids=SHAPES.keys())
def test_shapes(sent: object, read: Complaint) -> None:
    text = sent if isinstance(sent, str) else json.dumps(sent)
    assert read_complaint(text) == read
    assert complains(text) == (sent not in NO_COMPLAINTS)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"error":' * 100_000, '{"error": ' + "9" * 5000 + "}", '["' * 50_000])
def test_shapes_without_end(text: str) -> None:
    assert read_complaint(text).words and not complains(text)


def test_answers_are_no_complaints() -> None:
    answer = {"choices": [{"message": {"content": "- a tail"}}]}
    for text in (answer, answer | {"error": None}, answer | {"detail": "x"}, {"message": {"content": "a"}}, [], 7):
        assert not complains(json.dumps(text))


# -- what follows -----------------------------------------------------------------------------------
def sends(status: int, content: object, **headers: str) -> Behaviour:
    return lambda handler: handler.send(status, content, headers=headers)


def described(server: ChatServer, *names: str, **changes: object) -> Summary:
    return describe_classes(order(server.url, names, **changes))


@pytest.mark.parametrize("status", [200, 429])
def test_a_rate_limit_is_waited_out_wherever_it_stands(here: Path, clock: Clock, status: int) -> None:
    with serving(
        lambda name, nth: sends(status, [EXHAUSTED]) if nth == 0 else good(name), clock=clock.monotonic
    ) as server:
        assert described(server, "fox").described == 1
    assert [request.at for request in server.requests] == [0.0, 34.5]


def test_a_rate_limit_within_a_success_is_retried(here: Path) -> None:
    with serving(lambda name, nth: sends(200, UPSTREAM) if nth < 2 else good(name)) as server:
        assert described(server, "fox").described == 1
        server.script = lambda name, nth: sends(200, UPSTREAM)
        (failure,) = described(server, "frog", max_retries=1, out=Path("b")).failed
    assert failure.reason == (
        "127.0.0.1 limits the rate (Provider returned error; some-model is temporarily rate-limited upstream)"
    )
    assert len(server.requests) == 3 + 2


@pytest.mark.parametrize("status", [200, 400, 402, 429])
def test_a_used_up_quota_stops_wherever_it_stands(here: Path, status: int) -> None:
    unpaid = {"error": {"message": "Insufficient credits", "code": 402}}
    with serving(lambda name, nth: sends(status, unpaid)) as server, pytest.raises(InputError) as caught:
        described(server, *(f"c{i}" for i in range(9)), concurrency=1)
    assert caught.value.message == "127.0.0.1 says that the quota is used up (Insufficient credits)"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(400, [GEMINI]), (200, GEMINI), (401, "Unauthorized"), (403, {"error": "No"})]
)
def test_a_wrong_key_stops_wherever_it_stands(here: Path, status: int, body: object) -> None:
    with serving(lambda name, nth: sends(status, body)) as server, pytest.raises(InputError) as caught:
        described(server, *(f"c{i}" for i in range(9)), concurrency=1)
    assert "127.0.0.1 refuses the key: " in caught.value.message and "OPENAI_API_KEY" in str(caught.value.hint)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize(
    "body",
    [
        {"error": FORMAT},
        {"message": FORMAT},
        [{"error": {"code": 400, "message": "Unknown name json_schema"}}],
        {"detail": [{"loc": ["body", "response_format", "type"], "msg": "no", "type": "x"}]},
        {"error": {"message": json.dumps({"error": {"message": "x", "param": "response_format.json_schema"}})}},
    ],
)
def test_a_rejected_parameter_is_dropped_whatever_says_so(here: Path, status: int, body: object) -> None:
    def script(name: str, nth: int) -> Behaviour:
        rejects = sends(status, body)
        return lambda handler: (rejects if "response_format" in handler.request_in.body else good(name))(handler)

    with serving(script) as server:
        summary = described(server, "fox")
    assert [line.text for line in summary.lines] == phrases("fox")
    assert summary.notes == ("127.0.0.1 rejects response_format for m-1: asked without it",)


def test_an_error_that_says_nothing_known_shows_itself(here: Path) -> None:
    with serving(lambda name, nth: sends(200, {"error": f"Unexpected endpoint, says {KEY}"})) as server:
        (failure,) = described(server, "fox").failed
    assert failure.reason == "127.0.0.1 answers an error with status 200 (Unexpected endpoint, says [key])"


# -- all refused alike ----------------------------------------------------------------------------------
NAMES = [f"class number {i}" for i in range(40)]
REFUSALS: dict[str, Callable[[str, int], Behaviour]] = {
    "no database": lambda name, nth: fails(400, "No connected db.", type="no_db_connection", code="400"),
    "no model": lambda name, nth: fails(400, NO_MODEL),
    "a text": lambda name, nth: sends(400, b"bad request"),
    "with the question's name": lambda name, nth: fails(422, f"no such model for {name}"),
    "with a number each": lambda name, nth: fails(400, f"no, request req-{hash(name):x}"),
    "with status 200": lambda name, nth: sends(200, {"error": "Unexpected endpoint"}),
    "another method": lambda name, nth: fails(405, "Method Not Allowed"),
}


@pytest.mark.parametrize("script", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_same_refusal_of_the_first_questions_stops(
    here: Path, script: Callable[[str, int], Behaviour], concurrency: int
) -> None:
    options = {"structured": False, "temperature": None}
    with (
        serving(script) as server,
        pytest.raises(InputError, match=r"questions were all refused alike: 127\.0\.0\.1") as caught,
    ):
        described(server, *NAMES, concurrency=concurrency, options=options)
    assert caught.value.hint == "check OPENAI_API_KEY and --model"
    assert 3 <= len(server.requests) <= 3 + concurrency - 1


def test_refusals_of_their_own_stop_nothing(here: Path) -> None:
    """The first three are refused, each in its own words; or in the same, while another one is answered."""
    own = {f"class number {i}": f"{word} is against the rules" for i, word in enumerate(["this", "that", "it"])}
    with serving(lambda name, nth: fails(400, own[name]) if name in own else good(name)) as server:
        summary = described(server, *list(own), *NAMES[3:9], concurrency=1)
    assert (summary.described, len(summary.failed), summary.stopped) == (6, 3, None)


def test_an_answer_under_way_is_waited_for(here: Path) -> None:
    """A slow good answer beside three quick refusals: the others are asked."""
    refused: set[str] = set()
    server: ChatServer

    def script(name: str, nth: int) -> Behaviour:
        if len(refused) < 3 and len(server.requests) > 1:
            refused.add(name)
            return fails(400, "against the rules")

        def slow(handler: object) -> None:
            with server._changed:
                server._changed.wait_for(lambda: len(server.requests) >= 4)
            good(name)(handler)  # type: ignore[arg-type]

        return slow if len(server.requests) == 1 else good(name)

    with serving(script) as server:
        summary = described(server, *NAMES[:12], concurrency=2)
    assert (summary.described, len(summary.failed), summary.stopped) == (9, 3, None)


def test_what_is_known_stays_where_all_is_refused(here: Path) -> None:
    with serving(lambda name, nth: good(name)) as server:
        described(server, *NAMES[:2])
        server.script = REFUSALS["no database"]
        summary = described(server, *NAMES)
    assert summary.described == 2 and len(summary.failed) == 38
    assert "refused alike" in str(summary.stopped) and summary.next_step == "check OPENAI_API_KEY and --model"
    assert summary.failed[-1].reason.startswith("not asked: ")


# -- addresses, and what else an answer may be -----------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "query"),
    [("?api-version=2026-01-01", "?api-version=2026-01-01"), ("/chat/completions?a=%20b&c", "?a=%20b&c"), ("", "")],
)
def test_a_query_stays_behind_the_path(here: Path, more: str, query: str) -> None:
    with serving(lambda name, nth: good(name)) as server:
        server.url += more
        assert described(server, "fox").described == 1
    assert [request.path for request in server.requests] == [f"/v1/chat/completions{query}"]


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    {"type": "text", "text": "- a tail\n- ears"},
]
MESSAGES: dict[str, dict[str, object]] = {
    "reasoning beside it": {"content": "- a tail\n- ears", "reasoning_content": "Hm.\n- a nose", "reasoning": "Hm."},
    "thoughts among its parts": {"content": PARTS},
    "texts as parts": {"content": ["- a tail\n", "- ears"]},
    "one part": {"content": {"type": "output_text", "text": "- a tail\n- ears"}},
    "odd things beside it": {"content": "- a tail\n- ears", "refusal": 0, "tool_calls": [], "audio": {}},
}
NO_TEXT: dict[str, tuple[dict[str, object], str]] = {
    "thoughts alone": ({"content": None, "reasoning_content": "Hm."}, "no text, but thoughts alone"),
    "thoughts in parts": ({"content": PARTS[:1]}, "no text, but thoughts alone"),
    "a tool": ({"content": None, "tool_calls": [{"id": "1"}]}, "no text, but a call of a tool"),
    "a refusal as a part": ({"content": [{"type": "refusal", "refusal": "I will not."}]}, "refused: I will not."),
    "nothing": ({}, "empty answer"),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_thoughts_beside_the_text_are_no_text(here: Path, message: dict[str, object]) -> None:
    with serving(lambda name, nth: sends(200, {"choices": [{"message": message}]})) as server:
        assert [line.text for line in described(server, "fox").lines] == ["a tail", "ears"]


@pytest.mark.parametrize(("message", "reason"), NO_TEXT.values(), ids=NO_TEXT.keys())
def test_messages_without_a_text(here: Path, message: dict[str, object], reason: str) -> None:
    with serving(lambda name, nth: sends(200, {"choices": [{"message": message}]})) as server:
        (failure,) = described(server, "fox").failed
    assert failure.reason == reason


def test_a_stream_is_named(here: Path) -> None:
    with serving(lambda name, nth: sends(200, b'data: {"choices": []}\n\ndata: [DONE]\n\n')) as server:
        (failure,) = described(server, "fox").failed
    assert failure.reason == "the server sent a stream of events with status 200"


def test_no_thought_becomes_a_description(here: Path) -> None:
    """Asked once more, and then named."""
    with serving(lambda name, nth: says("<think>Hm.\n- a nose") if nth == 0 else good(name)) as server:
        assert [line.text for line in described(server, "fox").lines] == phrases("fox")
        server.script = lambda name, nth: says("Okay, the user wants a list.\n\nIt has a tail.")
        (failure,) = described(server, "frog", out=Path("b")).failed
    assert failure.reason == "unclear answer: it thinks aloud"
