"""The hub's client without a network: one attempt a host, no wait, no lines, one error."""

from __future__ import annotations

import socket
import urllib.error
from collections.abc import Iterator
from typing import Any

import datasets  # noqa: F401 (its settings are changed below)
import huggingface_hub
import pytest
from huggingface_hub import hf_hub_download

from vlmprompt.backbones.load import load_backbone
from vlmprompt.data.load import load_dataset
from vlmprompt.errors import InputError
from vlmprompt.hub_client import one_attempt, unreachable


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[str]:
    """The address of a hub that refuses connections: a port that is taken and listens to nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://{host}")
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"http://{host}/{{repo_id}}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", f"http://{host}")
        yield host


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that the client has tried; a wait between two attempts fails the test."""
    hosts: list[str] = []
    client = type(huggingface_hub.get_session())
    send = client.send

    def counted(self: Any, request: Any, **options: Any) -> Any:
        hosts.append(request.url.netloc.decode())
        return send(self, request, **options)

    def wait(seconds: float) -> None:
        pytest.fail(f"waits {seconds} seconds before another attempt")

    monkeypatch.setattr(client, "send", counted)
    monkeypatch.setattr("time.sleep", wait)
    return hosts


def test_a_refused_connection_is_tried_once(closed: str, sent: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with one_attempt() as unreached:
        for file in ("a.json", "b.json"):
            with pytest.raises(Exception, match="locate the file") as error:
                hf_hub_download("owner/name", file)
            assert unreachable(error.value, unreached) == f"{closed} cannot be reached ([Errno 111] Connection refused)"
    assert sent == [closed]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "thing"),
    [
        ("hf-hub:owner/name", "model 'owner/name' of the Hugging Face hub"),
        ("ViT-B-16-quickgelu/openai", "weights 'openai' of ViT-B-16-quickgelu"),
    ],
)
def test_backbones_of_the_hub(
    spec: str, thing: str, closed: str, sent: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as error:
        load_backbone(spec)
    assert str(error.value).startswith(f"cannot fetch {thing}: {closed} cannot be reached")
    assert "get the network back" in str(error.value.hint)
    assert sent == [closed] and capfd.readouterr() == ("", "")


def test_data_sets_of_the_hub(closed: str, sent: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=rf"'owner/name': {closed} cannot be reached"):
        load_dataset("hf:owner/name")
    assert sent == [closed] and capfd.readouterr() == ("", "")


def test_the_client_is_left_as_it_was() -> None:
    session = huggingface_hub.get_session()
    before = session.send
    with one_attempt():
        assert session.send != before
    assert session.send == before


class ReadError(Exception):
    """As the client calls a connection that breaks off."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), None),
        (ReadError("broken off"), None),
        (ValueError("other"), None),
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
    ],
)
def test_other_errors_say_what_they_are(error: Exception, reason: str | None) -> None:
    assert unreachable(error, {}) == reason


def test_a_name_that_is_not_found() -> None:
    try:
        try:
            raise socket.gaierror(-2, "Name or service not known")
        except OSError as cause:
            raise urllib.error.URLError(cause) from cause
    except OSError as error:
        assert unreachable(error, {}) == "[Errno -2] Name or service not known"
