"""Description files of a few classes, and orders for a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.describe.asking import Limits
from vlmprompt.describe.order import Order
from vlmprompt.describe.work import ClassList

KEY = "sk-test-0123456789-secret"
NAMES = ("red fox", "green frog", "blue whale", "grey wolf")
PHRASES = {
    "red fox": ["a bushy tail", "orange fur"],
    "green frog": ["wet skin", "bulging eyes", "long legs"],
    "blue whale": ["a blowhole"],
    "grey wolf": ["pointed ears", "a long snout"],
}


def work_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a key, a cache and user folders of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return folder


def line(index: int, name: str, text: str, **more: Any) -> str:
    """One line as the format has it."""
    content: dict[str, Any] = {
        "schema": 1,
        "dataset": "photos",
        "class_index": index,
        "class": name,
        "text": text,
        "kind": "phrase",
        "provider": "openai",
        "model": "m-1",
        "template_sha256": "0" * 64,
        "sample": 0,
        "source": "by hand",
    }
    return json.dumps(content | more)


def write_descriptions(
    path: Path, names: Sequence[str] = NAMES, phrases: Mapping[str, Sequence[str]] = PHRASES, **more: Any
) -> Path:
    """A whole file; a class without phrases has no line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [line(i, name, text, **more) for i, name in enumerate(names) for text in phrases.get(name, ())]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def order(url: str, names: Sequence[str], **changes: Any) -> Order:
    """Features of some classes asked of a server, with waits that suit tests.

    Changes of `Limits` and of `Order` alike; `options` are added to the server's address.
    """
    limits = {"first_wait_s": 0.001, "longest_wait_s": 0.002, "timeout_s": 60.0}
    limits |= {key: changes.pop(key) for key in tuple(changes) if key in Limits.__dataclass_fields__}
    options = {"base_url": url, "model": "m-1", **changes.pop("options", {})}
    classes = ClassList("pets", tuple(names), changes.pop("limit", None))
    return Order(classes, "openai", options, limits=Limits(**limits), **changes)
