"""Where predictions go: a table or a stream on stdout, a file, or the JSON document."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprompt import shown
from vlmprompt.cli import output
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.regular import regular

if TYPE_CHECKING:
    from vlmprompt.predict.writers import Row, Writer

FORMATS = ("table", "csv", "jsonl")
MOST_IN_DOCUMENT = 10_000  # pictures; more are for a file
ROWS = 1000  # of a table; more are several tables
_WRITE = "free space or change the permissions there, or name another file with --out"
# What every file of predictions begins with.
_BEGINNINGS = (b"picture,class,label,probability", b'{"picture": ')
_OF_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Target:
    """Where predictions go.

    Attributes:
        form: of FORMATS; "document" under --json without a file.
        file: None: stdout.
        rows: those of the document.
    """

    form: str
    file: Path | None = None
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, form: str | None, file: Path | None, *, as_json: bool) -> Target:
        """What --format, --out and --json amount to; the file can be written.

        Raises:
            UsageError: there is no such format, or they do not fit together.
            InputError: nothing can be written there, or a file would be lost that holds no predictions.
        """
        if form is not None and form not in FORMATS:
            raise UsageError(f"unknown format {form!r}", hint=did_you_mean(form, FORMATS))
        if file is None:
            if as_json and form is not None:
                raise UsageError(
                    f"--format {form} has no effect with --json", hint="leave one of them out, or add --out"
                )
            return cls("document" if as_json else form or "table")
        if file.is_dir():
            raise UsageError(f"{file} is a folder, not a file", hint=f"--out {file / 'predictions.csv'}")
        form = form or _OF_SUFFIX.get(file.suffix.lower())
        if form is None:
            raise UsageError(f"{file} does not say what is to be in it", hint="add --format csv or --format jsonl")
        if form == "table":
            raise UsageError("a table is for people, and goes to no file", hint="--format csv or --format jsonl")
        from vlmprompt.atomic import probe

        _require_own(file)
        probe(file.parent, _WRITE)
        return cls(form, file)

    def require(self, total: int | None) -> None:
        """Refuse more pictures than a document should hold.

        Args:
            total: None where nobody knows.

        Raises:
            UsageError: they are too many.
        """
        if self.form == "document" and (total or 0) > MOST_IN_DOCUMENT:
            raise UsageError(
                f"{total:,} pictures are too many for one JSON document, which holds up to {MOST_IN_DOCUMENT:,}",
                hint="add --out predictions.jsonl: the document then sums up; or use --format jsonl",
            )

    def bars(self, total: int | None) -> bool | None:
        """Whether bars may be drawn: not where lines come out meanwhile on the same terminal; None: as usual.

        Args:
            total: the number of pictures; None where nobody knows.
        """
        at_the_end = self.form == "document" or (self.form == "table" and total is not None and total <= ROWS)
        return None if self.file is not None or at_the_end or not sys.stdout.isatty() else False

    @property
    def abandoned(self) -> bool:
        """Whether the reader of stdout has left."""
        return self.file is None and bool(getattr(sys.stdout, "abandoned", False))

    @contextmanager
    def opened(self) -> Iterator[Writer]:
        """What writes there; a file is in its place once the block has ended without an error.

        Raises:
            InputError: it cannot be written.
        """
        from vlmprompt.atomic import replacing
        from vlmprompt.predict.writers import Csv, JsonLines, Lines

        streams: dict[str, type[Csv] | type[JsonLines]] = {"csv": Csv, "jsonl": JsonLines}
        if self.file is not None:
            with replacing(self.file, hint=_WRITE) as part, part.open("w", encoding="utf-8", newline="") as opened:
                yield streams[self.form](opened.write)
        elif self.form == "document":
            yield _Kept(self.rows)
        elif self.form == "table":
            yield Lines(_print_table, ROWS)
        else:
            yield streams[self.form](_print_text)


class _Kept:
    """Keeps the rows, for a document."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def add(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        self._rows += rows

    def close(self) -> None:
        """They stay."""


def _require_own(file: Path) -> None:
    """Refuse to replace a file that holds something else than predictions: a picture, or the results of a run.

    Raises:
        InputError: it does, or is no file.
    """
    try:
        with regular(file).open("rb") as opened:
            beginning = opened.read(max(map(len, _BEGINNINGS)))
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "name a file, or leave --out out: predictions then go to standard output"
        raise InputError(f"cannot write {file}: {error.strerror}", hint=hint) from error
    if beginning and not beginning.startswith(_BEGINNINGS):
        raise InputError(
            f"{file} was not made by 'vlmprompt predict', and would be lost",
            hint="move it away, or name another file with --out",
        )


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    output.emit("predict", {}, as_json=False, table=output.Table(heads, rows))


def _print_text(text: str) -> None:
    """Lines, at once: somebody may be reading them."""
    print(shown.block(text), end="", flush=True)


def public(thing: Any) -> dict[str, Any] | None:
    """A threshold or calibration as the document shows it."""
    if thing is None:
        return None
    found = {key: value for key, value in vars(thing).items() if key != "reference"}
    reference = getattr(thing, "reference", None)
    return found if reference is None else found | vars(reference)
