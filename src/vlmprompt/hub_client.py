"""The Hugging Face hub's client, held to one attempt where no second one can help, and silent about its attempts."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

# By name: the client library is requests, httpx or httpx2, as the hub's package has it.
_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"})
_OFFLINE = frozenset({"OfflineModeIsEnabled"})
_LOGGERS = ("", "huggingface_hub", "datasets")  # open_clip writes to the root


@contextmanager
def one_attempt() -> Iterator[None]:
    """Within, a host to which no connection can be made is asked once, and the hub's package writes no lines.

    The package asks for every file again and again, with waits in between; a name that does not resolve, a refused
    connection and a missing network stay so. An answer that is an error, or breaks off, is still asked for again.
    """
    session = _session()
    with _silent():
        if session is None:
            yield
            return
        asked = session.send
        session.send = _Once(asked)
        try:
            yield
        finally:
            session.send = asked


def unreachable(error: BaseException) -> str | None:
    """Why the hub could not be reached, in words; None where the error, and what it came from, is of another kind."""
    causes = list(_chain(error))
    for cause in causes:
        if isinstance(cause, UnreachableError):
            return str(cause)
    for cause in causes:
        names = _names(cause)
        if names & _OFFLINE:
            return "HF_HUB_OFFLINE is set"
        if isinstance(cause, socket.gaierror | ConnectionRefusedError) or names & _NO_CONNECTION:
            return _first_line(cause)
    return None


class UnreachableError(ConnectionError):
    """A host to which no connection can be made."""


class _Once:
    """A client's `send` that remembers hosts to which no connection could be made."""

    def __init__(self, send: Callable[..., Any]) -> None:
        self._send = send
        self._closed: dict[str, UnreachableError] = {}

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        host = urlsplit(str(request.url)).netloc
        if host in self._closed:
            raise _offline(self._closed[host])
        try:
            return self._send(request, *args, **kwargs)
        except Exception as error:
            if not _names(error) & _NO_CONNECTION or _names(error) & _OFFLINE:
                raise
            self._closed[host] = UnreachableError(f"{host} cannot be reached: {_first_line(error)}")
            raise _offline(self._closed[host]) from error


def _offline(reason: UnreachableError) -> Exception:
    """As the hub's package itself says that there is no network: it then looks into its cache."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    error = OfflineModeIsEnabled(str(reason))
    error.__cause__ = reason
    return error


def _session() -> Any:
    try:
        from huggingface_hub import get_session
    except ImportError:
        return None
    return get_session()


@contextmanager
def _silent() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
