"""An empty folder to work in, with a key, a cache and user folders of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.describe.material import work_in


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    return work_in(tmp_path, monkeypatch)
