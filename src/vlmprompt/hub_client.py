"""The Hugging Face hub's client, held to one attempt where no second one can help, and silent about its attempts."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

Unreached = dict[str, str]  # host -> why, in words

# By name: the client library is requests, httpx or httpx2, as the hub's package has it.
_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError", "gaierror"})
_OFFLINE = frozenset({"OfflineModeIsEnabled"})
_NOT_CACHED = frozenset({"LocalEntryNotFoundError"})
_LOGGERS = ("", "huggingface_hub", "datasets")  # open_clip writes to the root


@contextmanager
def one_attempt() -> Iterator[Unreached]:
    """Within, a host to which no connection can be made is asked once, and the hub's package writes no lines.

    The package asks for every file again and again, with waits in between; a name that does not resolve, a refused
    connection and a missing network stay so. An answer that is an error, or breaks off, is still asked for again.

    Yields:
        The hosts that could not be reached, for `unreachable`.
    """
    session = _session()
    unreached: Unreached = {}
    with _silent():
        if session is None:
            yield unreached
            return
        own = vars(session)
        before = {name: own[name] for name in ("send",) if name in own}
        own["send"] = partial(_once, unreached, session.send)
        try:
            yield unreached
        finally:
            del own["send"]
            own |= before


def unreachable(error: BaseException, unreached: Unreached) -> str | None:
    """Why nobody answered, in words; None where an error is of another kind.

    Args:
        error: with those that it came from, as far as the packages on its way have kept them.
        unreached: of `one_attempt`.
    """
    causes = list(_chain(error))
    marks = {mark for cause in causes for mark in _names(cause) | set(re.findall(r"\w+", str(cause)))}
    if unreached and marks & (_NO_CONNECTION | _OFFLINE | _NOT_CACHED):
        return next(iter(unreached.values()))
    if marks & _OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return _first_line(causes[-1]) if marks & _NO_CONNECTION else None


def _once(unreached: Unreached, send: Callable[..., Any], request: Any, *args: Any, **kwargs: Any) -> Any:
    """A client's `send` that asks no host again to which no connection could be made."""
    host = urlsplit(str(request.url)).netloc
    if host not in unreached:
        try:
            return send(request, *args, **kwargs)
        except Exception as error:
            if not _names(error) & _NO_CONNECTION or _names(error) & _OFFLINE:
                raise
            unreached[host] = f"{host} cannot be reached ({_first_line(error)})"
    # As the hub's package itself says that there is no network: it then looks into its cache.
    from huggingface_hub.errors import OfflineModeIsEnabled

    raise OfflineModeIsEnabled(unreached[host])


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
