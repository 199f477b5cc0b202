"""Other names for classes, as people write them: lines `old = new`, or a TOML table."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from vlmprompt.config.text_lines import text_lines
from vlmprompt.config.toml import read_toml
from vlmprompt.errors import InputError
from vlmprompt.regular import named_path

HINT = "write: old name = new name"


def read_aliases(path: Path) -> dict[str, str]:
    """Old name -> new name, from a text file with a pair a line, or a TOML file (its table [aliases], if it has one).

    Blank lines and those that begin with # say nothing.

    Raises:
        InputError: it cannot be read, holds none, a line is no alias, or an old name has two new ones.
    """
    table = _toml(path) if path.suffix.lower() == ".toml" else _lines(path)
    if not table:
        raise InputError(f"{path} holds no aliases", hint=f"a line for each; {HINT}")
    return table


def _lines(path: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for number, line in text_lines(path, "aliases"):
        old, sign, new = (part.strip() for part in line.partition("="))
        if not (old and sign and new):
            raise InputError(f"{path}, line {number} is no alias: {line!r}", hint=HINT)
        if table.setdefault(old, new) != new:
            raise InputError(f"{path}, line {number}: {old!r} has two new names", hint="keep one of these lines")
    return table


def _toml(path: Path) -> dict[str, str]:
    try:
        content = read_toml(path)
    except OSError as error:
        raise InputError(f"cannot read aliases from {path}: {error.strerror}", hint="check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}", hint='write: "old name" = "new name"') from error
    table = content.get("aliases", content)
    try:
        return _checked(table)
    except ValueError as error:
        raise InputError(f"{path} holds no aliases: it {error}", hint='write: "old name" = "new name"') from error


def _checked(table: Any) -> dict[str, str]:
    """A table of texts, none of them empty."""
    if not isinstance(table, dict):
        raise ValueError("must be a table of old names and new ones")
    for old, new in table.items():
        if not (isinstance(old, str) and isinstance(new, str) and old.strip() and new.strip()):
            raise ValueError(f"must give every old name a new one; {old!r} has {new!r}")
    return {old.strip(): new.strip() for old, new in table.items()}


def _read(value: Any) -> Any:
    return read_aliases(named_path(value)) if isinstance(value, str) else _checked(value)


# Of a run: a table, or the name of a file.
AliasTable = Annotated[dict[str, str], BeforeValidator(_read)]
