"""Text files that people write by hand, an entry a line: templates, aliases."""

from __future__ import annotations

from pathlib import Path

from vlmprompt.errors import InputError
from vlmprompt.regular import regular

MOST_BYTES = 10_000_000  # of a file; more is no such list


def text_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """The lines of a UTF-8 file that say something, with their numbers from 1; blank ones and # comments do not.

    Args:
        what: what it is to hold, in errors, such as "templates".

    Raises:
        InputError: it cannot be read, is no UTF-8, or too large.
    """
    try:
        with regular(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {what} from {path}: {error.strerror}", hint="check the path") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} holds no {what}: it has more than {MOST_BYTES:,} bytes")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{what} in {path} are not UTF-8 text", hint="save it as UTF-8") from error
    stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]
