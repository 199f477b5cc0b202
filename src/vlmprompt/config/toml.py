"""TOML as anybody may have written it: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from vlmprompt.regular import regular

MOST_BYTES = 10_000_000  # of a file; more is no configuration


def parse_toml(text: str) -> dict[str, Any]:
    """What a text says.

    Raises:
        TOMLDecodeError: it is not TOML, too deep, or holds a number of more digits than Python converts.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    except ValueError as error:
        raise tomllib.TOMLDecodeError(str(error).partition(";")[0]) from None


def read_toml(path: Path) -> dict[str, Any]:
    """What a file says.

    Raises:
        OSError: it cannot be read.
        TOMLDecodeError: see `parse_toml`; also for a file that is no UTF-8 or no configuration by its size.
    """
    with regular(path).open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise tomllib.TOMLDecodeError(f"it has more than {MOST_BYTES:,} bytes")
    try:
        return parse_toml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise tomllib.TOMLDecodeError(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
