"""The standard streams as commands have them: they show what the terminal can, outlive their reader, and under
`--json` keep stdout for the document.

Everything goes through them: tables, progress, help pages, what libraries and plugins print.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

# Signs of ours that have no decomposition; those of tables are blocks of U+2500 to U+257F.
_ALIKE = {"–": "-", "—": "-", "−": "-", "±": "+-", "×": "x", "·": ".", "•": "*", "→": "->", "←": "<-", "↑": "^",
          "↓": "v", "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "━": "-", "╸": "-",
          "╺": "-", "─": "-", "│": "|", "┃": "|"}  # fmt: skip
_REPLACING = "vlmprompt.alike"
_NO_READER = {errno.EPIPE} | ({errno.EINVAL} if os.name == "nt" else set())


class Shown:
    """A text stream around a standard one.

    What its encoding lacks is written alike ("v" for an arrow down) or as a number. When its reader has left, what
    follows is dropped, and `abandoned` says so.

    Args:
        name: for errors.
        essential: an error other than a reader's leaving is raised; else there is nobody to tell.
    """

    def __init__(self, stream: TextIO, name: str, *, essential: bool) -> None:
        self._stream = stream
        self._name = name
        self._essential = essential
        self.abandoned = False

    def write(self, text: str) -> int:
        """Write what can be shown of a text."""
        encoding = self._stream.encoding or "utf-8"
        shown = text.encode(encoding, _REPLACING).decode(encoding)
        self._attempt(lambda: self._stream.write(shown))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Bring out what is written."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, act: Callable[[], object]) -> None:
        if self.abandoned:
            return
        try:
            act()
        except OSError as error:
            # What is still in its buffer must go somewhere, or the interpreter complains when it ends.
            self.abandoned = True
            _drain(self._stream)
            if self._essential and error.errno not in _NO_READER:
                raise OSError(error.errno, error.strerror, self._name) from error


@contextmanager
def standard_streams(*, as_json: bool) -> Iterator[Shown]:
    """Put the streams in place for a while; gives the one that results go to."""
    _fill_gaps()
    out = Shown(sys.stdout, "standard output", essential=True)
    err = Shown(sys.stderr, "standard error", essential=False)
    with (
        redirect_stderr(cast(TextIO, err)),
        redirect_stdout(cast(TextIO, out)),
        _reserved(out) if as_json else nullcontext(out) as results,
    ):
        yield results
        results.flush()


@contextmanager
def unasked() -> Iterator[None]:
    """Nobody is there to be asked: who reads standard input finds its end, and what is printed goes to stderr."""
    before, number = sys.stdin, os.dup(0)
    with open(os.devnull) as nothing, redirect_stdout(sys.stderr):  # noqa: PTH123
        sys.stdin = nothing
        os.dup2(nothing.fileno(), 0)
        try:
            yield
        finally:
            sys.stdin = before
            os.dup2(number, 0)
            os.close(number)


@contextmanager
def _reserved(out: Shown) -> Iterator[Shown]:
    """Keep stdout for a document: what else is written to it, be it by number, goes to stderr; stdin is empty."""
    out.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with unasked():
            if _number(out) == 1:
                with open(saved, "w", encoding="utf-8", closefd=False) as file:
                    yield Shown(file, "standard output", essential=True)
            else:
                yield out
    finally:
        with suppress(OSError, ValueError):  # what went past sys.stdout, while that is still stderr
            (sys.__stdout__ or out).flush()
        os.dup2(saved, 1)
        os.close(saved)


def _fill_gaps() -> None:
    """Give streams that were closed when the process began a place to write to; their numbers would go to files."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115


def _drain(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _number(stream: Any) -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return int(stream.fileno())
    return None


def _alike(error: UnicodeError) -> tuple[str, int]:
    """What is written for text that an encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_nearest, error.object[error.start : error.end])), error.end


def _nearest(sign: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(c))
    if sign in _ALIKE or (plain and plain.isascii()):
        return _ALIKE.get(sign, plain)
    return "+" if "\u2500" <= sign <= "\u257f" else sign.encode("ascii", "backslashreplace").decode()


codecs.register_error(_REPLACING, _alike)
