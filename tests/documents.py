"""Commands as documents show them, with the output that stands below them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
INDENT = "    "  # of what is shown as it is
PROMPT = "$ "
# A number that depends on the machine's arithmetic: of these only the size is compared.
DECIMAL = re.compile(r"\d+\.\d+")
CLOSE = 5.0


@dataclass(frozen=True)
class Shown:
    """A command of a document.

    Attributes:
        line: as a shell reads it.
        output: the lines below it, as shown; empty where a document shows none.
    """

    line: str
    output: list[str]

    @property
    def words(self) -> list[str]:
        """The program and its arguments."""
        return shlex.split(self.line, comments=True)


def commands(document: str, program: str = "vlmprompt") -> list[Shown]:
    """Every command of a program in a document, in order, comments left out, continued lines joined."""
    lines = [line for line in _shown_lines(document) if line is not None and line.startswith(f"{program} ")]
    return [Shown(line, []) for line in lines]


def transcript(document: str) -> list[Shown]:
    """The commands behind a "$ " in a document, with the output below them up to the next one or the block's end."""
    found: list[Shown] = []
    output: list[str] = []
    for line in _shown_lines(document):
        if line is None:
            output = []  # of no command
        elif line.startswith(PROMPT):
            output = []
            found.append(Shown(line.removeprefix(PROMPT), output))
        else:
            output.append(line)
    return found


def _shown_lines(document: str) -> Iterator[str | None]:
    """The lines of a document that are shown as they are, commands of several lines as one; None for prose."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        yield line.removeprefix(INDENT) if line.startswith(INDENT) or not line.strip() else None


def differs(shown: list[str], printed: list[str]) -> str | None:
    """What of a printed output is not as it is shown; None where all is.

    A line "..." of a document stands for any lines, "..." within one for any text. Numbers with a decimal point may be
    apart by some points, as the arithmetic of machines is; everything else is equal.
    """
    shown, printed = _trimmed(shown), _trimmed(printed)
    place = 0
    skipping = False
    for line in shown:
        if line.strip() == "...":
            skipping = True
            continue
        while skipping and place < len(printed) and not _alike(line, printed[place]):
            place += 1
        if place == len(printed) or not _alike(line, printed[place]):
            there = printed[place] if place < len(printed) else "nothing more"
            return f"shown: {line!r}, printed: {there!r}"
        place += 1
        skipping = False
    return None if skipping or place == len(printed) else f"not shown: {printed[place]!r}"


def _trimmed(lines: list[str]) -> list[str]:
    """Without spaces at ends of lines, and without empty lines around."""
    return "\n".join(line.rstrip() for line in lines).strip("\n").splitlines()


def _alike(shown: str, printed: str) -> bool:
    parts = shown.split("...")
    pattern = ".*".join(r"\d+\.\d+".join(map(_spaced, DECIMAL.split(part))) for part in parts)
    if re.fullmatch(pattern, printed) is None:
        return False
    if len(parts) > 1:
        return True
    pairs = zip(DECIMAL.findall(shown), DECIMAL.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) <= CLOSE for one, other in pairs)


def _spaced(text: str) -> str:
    """A pattern of a text in which runs of spaces and of rules may have another length, as columns of tables have."""
    return re.sub(r"(?:\\ )+", r"\\ +", re.sub("─+", "─+", re.escape(text)))
