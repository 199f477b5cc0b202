"""Addresses of servers: what is one, and what is never shown of what is none."""

from __future__ import annotations

import pytest

from vlmprompt.describe.address import Address, parse_address
from vlmprompt.errors import InputError


def parse(url: str) -> Address:
    return parse_address(url, hide=lambda text: text.replace("the-key", "[key]"), hint="the hint")


@pytest.mark.parametrize(
    ("url", "bare", "query", "host", "shown"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1", "", "api.openai.com", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/", "", "127.0.0.1", "http://127.0.0.1:8000/v1/"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", "", "::1", "http://[::1]:8000/v1"),
        ("HTTP://Host_1.local", "http://Host_1.local", "", "host_1.local", "http://Host_1.local"),
        ("http://m\u00fcnchen.de/v1", "http://m\u00fcnchen.de/v1", "", "m\u00fcnchen.de", "http://m\u00fcnchen.de/v1"),
        ("http://user:pass@host:1/v1?token=t#f", "http://user:pass@host:1/v1", "token=t", "host", "http://host:1/v1"),
        ("http://h/a/b?api-version=1&x=%20", "http://h/a/b", "api-version=1&x=%20", "h", "http://h/a/b"),
        ("http://h/v1/chat/completions/?a=b", "http://h/v1", "a=b", "h", "http://h/v1"),
    ],
)
def test_addresses(url: str, bare: str, query: str, host: str, shown: str) -> None:
    address = parse(url)
    assert (address.url, address.query, address.host, address.shown) == (bare, query, host, shown)


def test_what_stands_in_an_address_and_is_secret() -> None:
    assert parse("http://me:a%2Fb@host/v1?api-key=k&x=").secrets == ("me:a%2Fb", "me:a/b", "me", "a%2Fb", "a/b", "k")
    assert parse("http://host/v1").secrets == ()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://[::1/v1", "'http://[::1/v1' is not the address of a server: its host cannot be read"),
        ("http://[abc]/", "'http://[abc]/' is not the address of a server: its host cannot be read"),
        ("http://a..b/", "'http://a..b/' is not the address of a server: its host cannot be read"),
        ("http://h:abc/v1", "'http://h:abc/v1' is not the address of a server: its port is no number from 1 to 65535"),
        ("http://h:99999", "'http://h:99999' is not the address of a server: its port is no number from 1 to 65535"),
        ("http://h:0", "'http://h:0' is not the address of a server: its port is no number from 1 to 65535"),
        ("http://h:-1", "'http://h:-1' is not the address of a server: its port is no number from 1 to 65535"),
        ("http://h\nost", r"'http://h\nost' is not the address of a server: it holds '\n'"),
        ("http://h/\x1b[31m", r"'http://h/\x1b[31m' is not the address of a server: it holds '\x1b'"),
        ("http://h h", "'http://h h' is not the address of a server: it holds ' '"),
        ("http://h\\@i", r"'http://i' is not the address of a server: it holds '\\'"),
        ("localhost:8000", "'localhost:8000' is not the address of a server"),
        ("http://", "'http://' is not the address of a server"),
        ("", "'' is not the address of a server"),
        ("the-key", "'[key]' is not the address of a server"),
        ("x" * 300, f"'{'x' * 197}...' is not the address of a server"),
    ],
)
def test_what_is_none(url: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(url)
    assert (caught.value.message, caught.value.hint) == (message, "the hint")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:pa/ss@word@host",
        "http://user:pa/ss@word@host",
        "http://user:12/word@host",
        "http://user:1?word@host",
        "http://user:1#word@host",
        "http://user:pass@word@host",
        "http://user:word@host:99999",
        "http://user:word\n@host",
        "http://user:word%40host",
        "http://user:word\uff20host",
        "//user:word@host",
        "user:word@host",
        "ftp://host/?key=word",
    ],
)
def test_a_user_is_never_shown(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(url)
    assert "user" not in caught.value.message.split(" is not the address")[0]
    assert not [part for part in ("pa/ss", "word", "pass") if part in caught.value.message]
    assert "host" in caught.value.message
