"""A real HTTP server on loopback that speaks OpenAI's chat completions, as a script tells it to.

A script is a function of (class name, how many requests for it came before) that gives a behaviour. A behaviour is
given the request's handler and writes whatever it likes to the connection.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = re.compile(r"distinguishing a (.+?) in a photo")


@dataclass(frozen=True)
class Request:
    """One request as it came.

    Attributes:
        name: the class that it asks about.
        nth: how many requests about that class came before.
        at: seconds, on the server's clock.
        path: what was asked of the server, query and all.
    """

    name: str
    nth: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    at: float
    path: str = ""


Behaviour = Callable[["Handler"], None]
Script = Callable[[str, int], Behaviour]


@dataclass
class ChatServer:
    """The server's state, for tests to look at.

    Attributes:
        script: what it does; may be changed while it runs.
        together: no answer goes out before so many requests were under way at once.
        clock: gives the time, in seconds.
        requests: all that came, in order.
        most_at_once: of requests under way; one is, until its answer begins.
    """

    script: Script
    together: int = 1
    clock: Callable[[], float] = time.monotonic
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def enter(self, body: Mapping[str, Any], headers: Mapping[str, str], path: str) -> Request:
        """A request has come."""
        question = body["messages"][0]["content"]
        found = NAME.search(question)
        name = found.group(1) if found else question
        with self._changed:
            request = Request(name, self._counts[name], body, headers, self.clock(), path)
            self._counts[name] += 1
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._changed.notify_all()
        return request

    def leave(self) -> None:
        """A request is about to be answered. (Afterwards would be too late: the client may send the next one first.)"""
        with self._changed:
            self._changed.wait_for(lambda: self.most_at_once >= self.together)
            self._at_once -= 1

    def count(self, name: str) -> int:
        """How many requests about a class have come."""
        return self._counts[name]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    request_in: Request
    state: ChatServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """A question."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.partition("?")[0].endswith("/chat/completions"):
            self.send(404, {"error": {"message": f"there is no {self.path}"}})
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_in = self.state.enter(body, headers, self.path)
        self.state.leave()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.state.script(self.request_in.name, self.request_in.nth)(self)

    def send(
        self,
        status: int,
        content: object,
        *,
        type_: str = "application/json",
        headers: Mapping[str, str] | None = None,
        promised: int = 0,
    ) -> None:
        """An answer; `promised` more bytes than there are."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "content-type": type_,
            "content-length": str(len(raw) + promised),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving(script: Script, *, together: int = 1, clock: Callable[[], float] = time.monotonic) -> Iterator[ChatServer]:
    """A server for a while."""
    state = ChatServer(script, together, clock)
    handler = type("Bound", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- behaviours -------------------------------------------------------------------------------------
def phrases(name: str) -> list[str]:
    """What a good answer says of a class."""
    return [f"the tail of item {name}", f"two ears, {name[::-1]}"]


def says(
    text: str | None, *, finish: str = "stop", refusal: str | None = None, tokens: tuple[int, int] = (20, 10)
) -> Behaviour:
    """A chat completion with this text."""

    def behave(handler: Handler) -> None:
        message = {"role": "assistant", "content": text, "refusal": refusal}
        handler.send(
            200,
            {
                "id": "chat-1",
                "object": "chat.completion",
                "created": 1,
                "model": handler.request_in.body["model"],
                "system_fingerprint": "fp-1",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
            },
        )

    return behave


def good(name: str) -> Behaviour:
    """A list, in JSON where a schema came with the question."""

    def behave(handler: Handler) -> None:
        items = phrases(name)
        structured = "response_format" in handler.request_in.body
        text = json.dumps({"descriptions": items}) if structured else "".join(f"- {item}\n" for item in items)
        says(text)(handler)

    return behave


def fails(status: int, message: str = "no", *, headers: Mapping[str, str] | None = None, **error: Any) -> Behaviour:
    """An error in OpenAI's shape."""
    return lambda handler: handler.send(status, {"error": {"message": message, **error}}, headers=headers)


def always_good(name: str, nth: int) -> Behaviour:
    """The script of a server that works."""
    return good(name)
