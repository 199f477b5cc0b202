"""What tells one state of the code from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vlmprompt.distributions import UNKNOWN, code_version

Install = Callable[[bool], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package of two modules as pip records it, editable or not; gives the package's folder."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(editable: bool) -> Path:
        info = tmp_path / "acme_turn-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-turn\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[vlmprompt]\nturn = acme_turn.entry\n")
        if editable:
            (info / "direct_url.json").write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
        package = tmp_path / "acme_turn"
        package.mkdir()
        (package / "entry.py").write_text("SIGN = 1\n")
        (package / "schedule.toml").write_text("lr = 0.1\n")
        return package

    return installed


def version() -> str:
    """As another process would find it."""
    return code_version.__wrapped__("acme-turn")


def test_a_release_is_its_version(install: Install) -> None:
    package = install(False)
    assert version() == "1.2"
    (package / "entry.py").write_text("SIGN = -1\n")
    assert version() == "1.2"


@pytest.mark.parametrize("change", ["code", "settings", "a new module", "a renamed one"])
def test_an_editable_install_changes_with_its_code(install: Install, change: str) -> None:
    package = install(True)
    before = version()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "entry.pyc").write_bytes(b"compiled")
    (package / "notes.md").write_text("no code")
    assert before == version()
    if change == "code":
        (package / "entry.py").write_text("SIGN = -1\n")
    elif change == "settings":
        (package / "schedule.toml").write_text("lr = 0.2\n")
    elif change == "a new module":
        (package / "more.py").write_text("")
    else:
        (package / "entry.py").rename(package / "other.py")
    assert before.startswith("1.2+")
    assert version().startswith("1.2+")
    assert version() != before


def test_what_is_not_installed() -> None:
    assert code_version("nobody-has-this") == UNKNOWN
