"""The address of a server, read once; what may be shown of it, and what may not."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from vlmprompt.describe.secrets import MOST_SAID
from vlmprompt.errors import InputError

_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0\\<>\"{}|^`\ud800-\udfff\u2028\u2029]")
ASKED_PATH = "/chat/completions"
_AT = re.compile("@|%40|\uff20|\ufe6b")  # and what people or programs write in its place


@dataclass(frozen=True)
class Address:
    """Where a server is.

    Attributes:
        url: without its query, as the client puts its paths behind it.
        query: what is to stand behind the path of each request, such as "api-version=1".
        host: its name or number, for messages and provenance.
        shown: the address without user, password and query.
        secrets: what stands there in their place.
    """

    url: str
    query: str
    host: str
    shown: str
    secrets: tuple[str, ...]


def parse_address(url: str, *, hide: Callable[[str], str], hint: str) -> Address:
    """An address, taken apart.

    Args:
        hide: what must not be shown of what is no address.
        hint: of the error, where the address comes from.

    Raises:
        InputError: it is none; the message shows neither user nor password, however they are written.
    """
    try:
        return _parse(url)
    except _NoAddressError as error:
        why = f": {error}" if str(error) else ""
        raise InputError(f"{hide(_without_user(url))!r} is not the address of a server{why}", hint=hint) from None


def user_in(url: str) -> tuple[str, ...]:
    """User and password in an address, together and apart, as they are written and as they are sent."""
    user = url.partition("://")[2].rpartition("@")[0]
    parts = (user, *user.split(":"))
    return tuple(dict.fromkeys(form for part in parts for form in (part, unquote(part)) if form))


class _NoAddressError(ValueError):
    """Says why, without the address."""


def _parse(url: str) -> Address:
    # Before urlsplit, which drops control characters without a word.
    if bad := _NEVER.search(url):
        raise _NoAddressError(f"it holds {bad.group()!r}")
    try:
        parts = urlsplit(url)
    except ValueError:  # its text repeats the address
        raise _NoAddressError("its host cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _NoAddressError
    if url.count("@") > parts.netloc.count("@") or parts.netloc.count("@") > 1:
        raise _NoAddressError("it has an @ that does not end the user; write %40 for @ and %2F for / there")
    place = parts.netloc.rpartition("@")[2]
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or place.endswith(":"):
        raise _NoAddressError("its port is no number from 1 to 65535")
    if not _is_host(parts.hostname):
        raise _NoAddressError("its host cannot be read")
    secrets = (*user_in(url), *(value for _, value in parse_qsl(parts.query)))
    whole = parts.path.rstrip("/")  # as it may stand in a server's manual
    path = whole.removesuffix(ASKED_PATH) if whole.endswith(ASKED_PATH) else parts.path
    bare = urlunsplit(parts._replace(path=path, query="", fragment=""))
    return Address(bare, parts.query, parts.hostname, f"{parts.scheme}://{place}{path}", secrets)


def _is_host(name: str) -> bool:
    try:
        if ":" in name:
            ipaddress.ip_address(name)
        else:
            name.encode("idna")
    except ValueError:  # UnicodeError is one
        return False
    return True


def _without_user(url: str) -> str:
    """As much of what is no address as can be shown; after the last @ there is no user."""
    scheme, mark, rest = url.partition("://")
    shown = _AT.split(rest if mark else scheme)[-1]
    shown = f"{scheme if mark else ''}{mark}{re.split('[?#]', shown)[0]}"
    return shown if len(shown) <= MOST_SAID else f"{shown[: MOST_SAID - 3]}..."
