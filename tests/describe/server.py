"""The server on loopback of `vlmprompt.conformance.chat`, and ways in which it misbehaves."""

from __future__ import annotations

from vlmprompt.conformance.chat import (
    Behaviour,
    ChatServer,
    Handler,
    Request,
    Script,
    always_good,
    fails,
    good,
    phrases,
    says,
    serving,
)

__all__ = [
    "Behaviour",
    "ChatServer",
    "Handler",
    "Request",
    "Script",
    "always_good",
    "drops",
    "fails",
    "good",
    "html",
    "phrases",
    "says",
    "serving",
    "silent",
    "stops_halfway",
    "torn",
]


def html(status: int = 200) -> Behaviour:
    """A page of a proxy."""
    return lambda handler: handler.send(status, b"<html><body>Sign in</body></html>", type_="text/html")


def drops(handler: Handler) -> None:
    """The connection ends without a word."""
    handler.close_connection = True
    handler.connection.shutdown(2)


def stops_halfway(handler: Handler) -> None:
    """The connection ends within the answer."""
    handler.send(200, b'{"choices": [', promised=100)
    handler.close_connection = True


def torn(handler: Handler) -> None:
    """A whole answer of half a JSON document."""
    handler.send(200, b'{"id": "chat-1", "choices": [{"index"')


def silent(handler: Handler) -> None:
    """No answer, for as long as the client keeps the connection."""
    handler.rfile.read(1)
