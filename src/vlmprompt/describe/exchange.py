"""One request and the whole of its answer, from the server that was named and no larger than an answer is.

An HTTP client follows a redirect to wherever it leads, and reads whatever comes until its end. Neither is meant:
the questions are for one server, and who sends without end must not be waited for.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from vlmprompt.describe.provider import RequestError

LARGEST_REPLY = 1 << 20  # bytes, decompressed: the longest thoughts of models are half of that
MOST_REDIRECTS = 5
NEVER_S = 1e8  # three years
# They tell how the bytes came, or how to make text of them; what is handed on is plain.
_OF_TRANSFER = frozenset({"content-encoding", "content-length", "content-type", "transfer-encoding"})


async def exchange(send: Callable[[Any], Awaitable[Any]], request: Any, told: Callable[[object], str]) -> Any:
    """The answer to a request, read to its end.

    Args:
        send: sends a request and gives the answer unread, a redirect as it is; request and answer are the client's.
        told: makes words from outside fit for a message.

    Raises:
        RequestError: a redirect to another server, too many of them, or an answer of more than `LARGEST_REPLY`.
    """
    for _ in range(1 + MOST_REDIRECTS):
        response = await send(request)
        following = response.next_request
        try:
            content = b"" if following is not None else await _content(response)
        finally:
            await response.aclose()
        if following is None:
            return _plain(response, content, request)
        _check_server(request.url, following.url, response.status_code, told)
        request = following
    raise RequestError(f"{told(request.url.host)} redirects more than {MOST_REDIRECTS} times", stops=True)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: milliseconds, seconds or a date; None where it says nothing of use."""
    value = headers.get("retry-after", "")
    readings: tuple[Callable[[], float], ...] = (
        lambda: float(headers["retry-after-ms"]) / 1000,
        lambda: float(value),
        lambda: parsedate_to_datetime(value).timestamp() - time(),
    )
    for read in readings:
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            if math.isfinite(seconds := read()):
                return min(max(0.0, seconds), NEVER_S)
    return None


async def _content(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LARGEST_REPLY:
            raise RequestError(f"the server sent more than {LARGEST_REPLY:,} bytes in one answer: broken off there")
        parts.append(part)
    return b"".join(parts)


def _plain(response: Any, content: bytes, request: Any) -> Any:
    """The answer as one that has been read, as UTF-8 whatever its charset: some of those are no text, or run code."""
    headers = [(name, value) for name, value in response.headers.items() if name.lower() not in _OF_TRANSFER]
    return type(response)(response.status_code, headers=headers, content=content, request=request)


def _check_server(asked: Any, named: Any, status: int, told: Callable[[object], str]) -> None:
    if (asked.scheme, asked.host, _port(asked)) == (named.scheme, named.host, _port(named)):
        return
    place = f"{named.scheme}://{named.netloc.decode('ascii', 'replace')}"
    raise RequestError(
        f"{told(asked.host)} redirects to another server, {told(place)} ({status}), which was not asked",
        stops=True,
        hint="if that one is meant, give its address with --base-url",
    )


def _port(url: Any) -> int | None:
    port: int | None = url.port
    return port or {"http": 80, "https": 443}.get(url.scheme)
