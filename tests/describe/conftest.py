"""An empty folder to work in, with a key, a cache and user folders of its own; and time that a test moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.describe.clock import Clock
from tests.describe.material import work_in
from vlmprompt.describe import asking


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    return work_in(tmp_path, monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of whoever asks."""
    clock = Clock()
    for module in ("asyncio", "time"):
        monkeypatch.setattr(asking, module, clock)
    return clock
