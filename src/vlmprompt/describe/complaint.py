"""What a server says in an error, in whatever form: an object, a text, a list, or one with status 200.

Every gateway has a form of its own: OpenAI's object under "error", Google's list of one, a bare text of LM Studio,
lists of faults with places by FastAPI, JSON in JSON where one gateway hands on another's. Common to them are words for
people, a code, and at times the name of a parameter; these are looked for wherever they may stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

DEEPEST = 10  # of errors within errors
MOST_PARTS = 100  # of an error that are looked at
MOST_WORDS = 4  # of its parts that are told
_WITHIN = ("error", "errors", "detail", "details", "fault", "base_resp", "metadata", "raw", "innererror", "body")
_WORDS = (
    "message",
    "msg",
    "error_msg",
    "error_message",
    "status_msg",
    "error_description",
    "reason",
    "title",
    "detail",
)
_CODES = ("code", "status", "status_code", "statusCode", "error_code", "type", "reason", "error_type")
# What servers call the faults that HTTP has a number for; words of a code, in small letters.
_STATUS = {
    401: "invalid_api_key api_key_invalid unauthenticated authentication_error auth_error unauthorized invalid_token "
    "authenticationerror token_not_found_in_db",
    402: "insufficient_quota insufficient_credits insufficient_balance billing_error payment_required "
    "billing_hard_limit_reached budget_exceeded credit_balance_too_low",
    403: "permission_denied permission_error forbidden",
    404: "model_not_found not_found not_found_error notfounderror deployment_not_found deploymentnotfound",
    408: "timeout request_timeout timeout_error",
    429: "rate_limit_exceeded rate_limit_error resource_exhausted too_many_requests rate_limited ratelimiterror "
    "throttling_error",
    500: "internal internal_error server_error internal_server_error api_error",
    503: "unavailable overloaded overloaded_error service_unavailable engine_overloaded model_overloaded",
    504: "deadline_exceeded gateway_timeout",
}
_BY_WORD = {word: status for status, words in _STATUS.items() for word in words.split()}
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s?")
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<>]{1,200})</title>", re.IGNORECASE)


@dataclass(frozen=True)
class Complaint:
    """An error in a server's words.

    Attributes:
        words: for people; nothing in them has been hidden yet.
        status: of HTTP that its code stands for; 0: it has none, or none that is known.
        parameter: of the request that is rejected, if the error names one apart from its words.
        wait_s: how long it asks to wait.
    """

    words: str = ""
    status: int = 0
    parameter: str = ""
    wait_s: float | None = None


def read_complaint(text: str) -> Complaint:
    """What a body says, whatever it is."""
    body = _parsed(text)
    if isinstance(body, Mapping) and complains(text) and body.get("choices"):
        body = body["choices"][0]
    if isinstance(body, str):
        is_page = body.lstrip()[:1] == "<"
        title = _TITLE.search(body) if is_page else None
        return Complaint(" ".join(title[1].split()) if title else "" if is_page else body.strip())
    parts = list(islice(_parts(body, DEEPEST), MOST_PARTS))
    words = list(dict.fromkeys(said for part in parts for said in _words(part)))[:MOST_WORDS]
    # What a gateway hands on says more than its own words do.
    distinct = [said for said in words if not any(said != other and said in other for other in words)]
    objects = [part for part in parts if isinstance(part, Mapping)]
    return Complaint(
        "; ".join(distinct) or json.dumps(body, ensure_ascii=False),
        # A word says more than a number: 429 may be a used-up quota, and 400 a wrong key.
        next((status for read in (_named, _numbered) for part in objects for status in read(part)), 0),
        next((name for part in objects for name in _parameters(part)), ""),
        next((seconds for part in objects for seconds in _waits(part)), None),
    )


def complains(text: str) -> bool:
    """Whether a body that came as a success is an error by what it says."""
    body = _parsed(text)
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, Mapping):
        return False
    choices = body.get("choices")
    if choices:
        return isinstance(choices, list) and isinstance(choices[0], Mapping) and bool(choices[0].get("error"))
    return any(body.get(key) for key in _WITHIN) or any(isinstance(body.get(key), str) for key in _WORDS)


def _parsed(text: str) -> Any:
    """A body as JSON, or as the text that it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parts(body: Any, depth: int) -> Iterator[Any]:
    """The error itself and what stands in it, from the outside in."""
    if depth == 0:
        return
    if isinstance(body, str):
        inner = _parsed(body.strip()) if body.strip()[:1] in ("{", "[") else body
        yield from [body] if isinstance(inner, str) else _parts(inner, depth - 1)
    elif isinstance(body, Mapping):
        yield body
        for key in _WITHIN:
            if isinstance(body.get(key), str | list | Mapping):
                yield from _parts(body[key], depth - 1)
        for key in _WORDS:  # JSON in the place of words
            if isinstance(said := body.get(key), str) and said.strip()[:1] in ("{", "["):
                yield from _parts(said, depth - 1)
    elif isinstance(body, list):
        for inner in body[:3]:
            yield from _parts(inner, depth - 1)


def _words(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part.strip()
    elif isinstance(part, Mapping):
        said = next((part[key] for key in _WORDS if isinstance(part.get(key), str) and part[key].strip()), "")
        place = ".".join(str(step) for step in part["loc"]) if isinstance(part.get("loc"), list) else ""
        if said and said.strip()[:1] not in ("{", "["):
            yield f"{place}: {said.strip()}" if place else said.strip()


def _named(part: Mapping[str, Any]) -> Iterator[int]:
    """Statuses by the words of a code."""
    for value in map(part.get, _CODES):
        if isinstance(value, str) and (status := _BY_WORD.get(value.strip().casefold().replace(" ", "_"))):
            yield status


def _numbered(part: Mapping[str, Any]) -> Iterator[int]:
    for value in map(part.get, _CODES):
        if isinstance(value, int | str) and re.fullmatch(r"[45]\d\d", str(value)):
            yield int(value)


def _parameters(part: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(named := part.get("param"), str) and named not in ("", "None"):
        yield re.split(r"[.\[]", named)[0]
    if isinstance(place := part.get("loc"), list):
        yield from (str(step) for step in place if step != "body")


def _waits(part: Mapping[str, Any]) -> Iterator[float]:
    for key in ("retryDelay", "retry_after", "retry_after_seconds"):
        match = _SECONDS.fullmatch(str(part.get(key, "")))
        if match:
            yield float(match[1])
