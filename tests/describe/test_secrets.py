"""What must not be shown: no eight characters of a key in a row, however a server repeats it."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.describe.server import Behaviour, ChatServer, fails, says, serving
from tests.describe.server import html as page
from vlmprompt.cli.main import main
from vlmprompt.describe.cache import DescriptionCache, cache_folder
from vlmprompt.describe.reading import clean
from vlmprompt.describe.secrets import Secrets, check_key
from vlmprompt.errors import InputError

PLAIN = "sk-proj-AbCdEfGh0123456789_-xyzXYZ"
ODD = "k%41&<>\"'\\/;=+,!x9Q%7Ez$#@(){}[]|^`"
SPACED = "one two three four key"
KEYS = (PLAIN, ODD, SPACED)


def json_form(key: str) -> str:
    return json.dumps(key)[1:-1]


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "its beginning": lambda key: key[:-3],
    "its end": lambda key: key[4:],
    "capitals": str.upper,
    "JSON": json_form,
    "JSON in JSON": lambda key: json_form(json_form(key)),
    "\\u": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "\\x": lambda key: "".join(f"\\x{ord(c):02X}" for c in key),
    "octal": lambda key: "".join(f"\\{ord(c):03o}" for c in key),
    "repr": lambda key: repr(key)[1:-1],
    "URL": lambda key: quote(key, safe=""),
    "URL in URL": lambda key: quote(quote(key, safe=""), safe=""),
    "HTML": html.escape,
    "HTML numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 of a header": lambda key: b64encode(f"Bearer {key}, and so on".encode()).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
    "wrapped": lambda key: f"{key[:10]}\n    {key[10:]}",
    "controls between": "\x1b".join,
    "unseen between": "\u200b".join,
    "bold": lambda key: f"{key[:7]}**{key[7:]}**",
    "full width": lambda key: "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in key),
}


def parts(key: str) -> set[str]:
    return {key[i : i + 8] for i in range(len(key) - 7)}


def assert_hidden(key: str, *texts: str) -> None:
    """No part of a key, and in none of the ways that a reader would try first."""
    for text in texts:
        shown = text + clean(text, "phrase") + text.replace(" ", "")
        assert not [part for part in parts(key) if part in shown], text


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("key", KEYS)
def test_every_form_is_hidden(key: str, form: Callable[[str], str]) -> None:
    secrets, echoed = Secrets(key), form(key)
    hidden = secrets.hide(f"- a tail\n- {echoed}\n- two ears")
    assert hidden.startswith("- a tail\n-") and hidden.endswith("\n- two ears")
    in_json = secrets.hide(json.dumps({"descriptions": [f"a tail {echoed}", "two ears"]}))
    assert json.loads(in_json)["descriptions"][1] == "two ears"  # what is around it stays what it was
    assert_hidden(key, hidden, in_json, json.loads(in_json)["descriptions"][0], secrets.told(echoed))
    for encoded in (b64encode(key.encode()).decode()[:-4], key.encode().hex()):
        assert encoded not in hidden


def test_hidden_first_and_cut_then() -> None:
    """A key across the cut leaves no part of itself."""
    secrets = Secrets(PLAIN)
    for before in range(150, 210):
        told = secrets.told("x" * before + PLAIN)
        assert len(told) <= 200
        assert_hidden(PLAIN, told)
    assert secrets.told("y" * 300) == "y" * 197 + "..."


def test_what_is_no_secret_stays() -> None:
    text = 'A long tail, "two" ears \\ 100 % red & soft; caf\u00e9 \U0001f98a &amp; \\u0041'
    assert Secrets(*KEYS).hide(text) == text
    assert Secrets().hide(text) == Secrets("").hide(text) == text
    assert Secrets(PLAIN).hide("a \ud800 b") == "a ? b"


def test_several_in_one_text() -> None:
    assert Secrets(PLAIN, "another-secret").hide(f"{PLAIN}{PLAIN} and another-secret.") == "[key] and [key]."


def test_words_for_a_message() -> None:
    told = Secrets(PLAIN).told("at \x1b[31mhttps://user:pa/ss@word@host/v1\r\n  and\u202e more\x07")
    assert told == "at [31mhttps://host/v1 and more"


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (f" {PLAIN}", "blanks or a line break around"),
        (f"{PLAIN}\n", "blanks or a line break around"),
        (f"{PLAIN}\u00e9", "beyond ASCII"),
        (f"{PLAIN[:9]}\u200b{PLAIN[9:]}", "beyond ASCII"),
        (f"{PLAIN[:9]}\udc80{PLAIN[9:]}", "beyond ASCII"),
        (f"{PLAIN[:9]}\n{PLAIN[9:]}", "line break"),
        (f"{PLAIN[:9]}\x7f{PLAIN[9:]}", "control character"),
        (f"{PLAIN[:9]}\x1b{PLAIN[9:]}", "control character"),
    ],
)
def test_a_key_that_no_header_can_carry(key: str, what: str) -> None:
    with pytest.raises(InputError, match=f"THE_VARIABLE holds .*{what}") as caught:
        check_key(key, "THE_VARIABLE")
    assert_hidden(PLAIN, f"{caught.value.message}{caught.value.hint}")
    assert check_key(ODD, "THE_VARIABLE") == ODD


# -- every path by which a server's words reach somebody ----------------------------------------------
def echoes(said: str) -> dict[str, Behaviour]:
    """Class name -> a way to repeat something."""
    fingerprint = {"choices": [{"message": {"content": "- a\n- b"}}], "system_fingerprint": said}
    broken = f"HTTP/1.1 200 OK\r\n{said!a}\r\n\r\n".encode()
    return {
        "error": fails(400, f"{'x' * 180} {said}"),
        "error of the server": fails(500, said),
        "error in an odd form": lambda handler: handler.send(400, {"error": [said]}),
        "rate limit": fails(429, said),
        "parameter": fails(400, f"temperature: {said}", param="temperature"),
        "list": says(f"- a tail {said}\n- ears"),
        "JSON": says(json.dumps({"descriptions": [f"a tail {said}", "ears"]})),
        "one word": says(said),
        "refusal": says("", refusal=said),
        "finish": says("- a\n- b", finish=said),
        "fingerprint": lambda handler: handler.send(200, fingerprint),
        "header": lambda handler: handler.connection.sendall(broken),
        "HTML": page(502),
    }


STOPPING: dict[str, Callable[[str], Behaviour]] = {
    "wrong key": lambda said: fails(401, f"{'x' * 180} {said}"),
    "no such model": lambda said: fails(404, said),
    "quota": lambda said: fails(429, said, code="insufficient_quota"),
    "long wait": lambda said: fails(429, said, headers={"retry-after": "3600"}),
    "redirect": lambda said: (
        lambda handler: handler.send(307, {}, headers={"location": f"http://{quote(said)}:x@127.0.0.1:9/{quote(said)}"})
    ),
}


def everything(capsys: pytest.CaptureFixture[str], here: Path) -> list[str]:
    """All that came out: the streams, the document as a reader of JSON sees it, files, cached answers."""
    out, err = capsys.readouterr()
    texts = [out, err, json.dumps(json.loads(out), ensure_ascii=False) if out.startswith("{") else ""]
    texts += [path.read_bytes().decode("utf-8", "replace") for path in here.parent.rglob("*") if path.is_file()]
    texts += [json.loads(row)["text"] for path in here.rglob("*.jsonl") for row in path.read_text().splitlines()]
    with closing(DescriptionCache(cache_folder())) as cache:
        texts += [repr(json.loads(text)) for _, text in cache.items()]
    return texts


@pytest.mark.parametrize(
    ("key", "form"), [(PLAIN, "as it is"), (ODD, "as it is"), (ODD, "JSON in JSON"), (SPACED, "unseen between")]
)
def test_no_path_shows_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str, form: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    behaviours = echoes(FORMS[form](key))
    (here / "pets.txt").write_text("\n".join(behaviours))
    arguments = ["describe-classes", "--classes", "pets.txt", "--max-retries", "0", "--provider", "openai"]
    with serving(lambda name, nth: behaviours[name]) as server:
        codes = [main([*arguments, "--base-url", server.url, flag]) for flag in ("--debug", "--json")]
    assert codes == [5, 5]
    assert_hidden(key, *everything(capsys, here))


@pytest.mark.parametrize("stop", STOPPING.values(), ids=STOPPING.keys())
def test_no_last_word_shows_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stop: Callable[[str], Behaviour]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ODD)
    (here / "pets.txt").write_text("fox")
    with serving(lambda name, nth: stop(ODD)) as server:
        arguments = ["describe-classes", "--classes", "pets.txt", "--base-url", server.url, "--provider", "openai"]
        codes = [main([*arguments, flag]) for flag in ("--debug", "--json")]
    assert codes == [3, 3]
    assert_hidden(ODD, *everything(capsys, here))


def test_users_of_addresses_and_tokens_of_headers_are_secrets(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else goes out with a request is hidden when it comes back."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-token: token-0123456789")
    (here / "pets.txt").write_text("fox")
    server: ChatServer

    def behave(name: str, nth: int) -> Behaviour:
        sent = server.requests[-1].headers
        return fails(400, f"{sent['x-token']} {sent['authorization']} reader:pass-word-1 pass-word-1 query-0123456789")

    with serving(behave) as server:
        url = f"{server.url.replace('//', '//reader:pass-word-1@')}?token=query-0123456789"
        code = main(["describe-classes", "--classes", "pets.txt", "--provider", "openai", "--base-url", url])
    _out, err = capsys.readouterr()
    assert code in (3, 5)
    for secret in ("token-0123456789", "pass-word-1", "query-0123456789", b64encode(b"reader:pass-word-1").decode()):
        assert_hidden(secret, err)


def test_the_user_of_a_proxy_is_a_secret(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "pets.txt").write_text("fox")
    server: ChatServer

    def behave(name: str, nth: int) -> Behaviour:
        return fails(407, f"{server.requests[-1].headers['proxy-authorization']} of reader:pass-word-1")

    with serving(behave) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", "//reader:pass-word-1@").removesuffix("/v1"))
        url = "http://elsewhere.invalid/v1"
        code = main(["describe-classes", "--classes", "pets.txt", "--provider", "openai", "--base-url", url])
    err = capsys.readouterr().err
    assert code == 5 and "elsewhere.invalid answers 407 (Basic [key]" in err
    for secret in ("pass-word-1", b64encode(b"reader:pass-word-1").decode()):
        assert_hidden(secret, err)


@pytest.mark.parametrize("key", [f"{PLAIN}\n", f"{PLAIN[:9]}\n{PLAIN[9:]}", f"{PLAIN}\u00e9"])
def test_an_odd_key_is_refused_before_a_request(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    (here / "pets.txt").write_text("fox")
    with serving(lambda name, nth: says("- a\n- b")) as server:
        assert main(["describe-classes", "--classes", "pets.txt", "--base-url", server.url]) == 3
    assert server.requests == []
    out, err = capsys.readouterr()
    assert "OPENAI_API_KEY holds" in err and "Traceback" not in err
    assert_hidden(PLAIN, out, err)
