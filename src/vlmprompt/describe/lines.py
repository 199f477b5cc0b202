"""A description file: JSON Lines, one description a line, with where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.errors import InputError

SCHEMA = 1
WHICH_HAS = "{class}, which has {phrase}"  # how a phrase meets its class's name, unless somebody says otherwise
AGAIN = "repair the line, or write the file again with 'vlmprompt describe-classes'"
Kind = Literal["phrase", "sentence"]


class Sentence(str):
    """A description that stands by itself; a phrase (plain `str`) needs its class's name before it."""

    __slots__ = ()


class Line(BaseModel):
    """One description of one class.

    Attributes:
        dataset: whose class it is.
        class_index: the class's label there; what tells classes of one name apart.
        kind: "phrase" to follow "..., which has", or a whole "sentence".
        sample: which of several answers to the same question it came from.
        source: where a person would look it up: a file, a server, the drawings.
    """

    # What a reviewer adds to a line stays on it.
    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    version: Literal[1] = Field(1, alias="schema")
    dataset: str = ""
    class_index: int = Field(ge=0)
    name: str = Field(alias="class", min_length=1)
    text: str = Field(min_length=1)
    kind: Kind = "phrase"
    provider: str = ""
    model: str = ""
    template_sha256: str = ""
    sample: int = Field(0, ge=0)
    source: str = ""

    @property
    def description(self) -> str:
        """The text, as what it is."""
        return Sentence(self.text) if self.kind == "sentence" else self.text

    def dump(self) -> str:
        """The line as it is written, without its end."""
        return json.dumps(self.model_dump(by_alias=True), ensure_ascii=False)


def dump_lines(lines: Iterable[Line]) -> bytes:
    """A whole file, by class and sample, otherwise in the order given, so that a change shows as a small diff."""
    rows = sorted(lines, key=lambda line: (line.class_index, line.sample))
    return "".join(f"{line.dump()}\n" for line in rows).encode()


def parse_lines(content: bytes, path: Path) -> tuple[Line, ...]:
    """The lines of a file.

    Args:
        path: for messages.

    Raises:
        InputError: not UTF-8, a torn or wrong line, an unknown schema, or one class index with two names.
    """
    try:
        rows = content.decode("utf-8-sig").split("\n")  # not splitlines: JSON text may hold other line breaks
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from error
    lines = tuple(_parse(row, f"{path}, line {i}") for i, row in enumerate(rows, start=1) if row.strip())
    claimed: dict[int, Line] = {}
    for line in lines:
        first = claimed.setdefault(line.class_index, line)
        if written(first.name) != written(line.name):
            raise InputError(
                f"{path} claims class index {line.class_index} twice, for {first.name!r} and for {line.name!r}",
                hint="give each class an index of its own, the label that it has in the data set",
            )
    return lines


def written(name: str) -> str:
    """A class name as a text tower reads it: underscores are spaces, letter case does not count."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _parse(row: str, where: str) -> Line:
    try:
        content: Any = json.loads(row)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is torn: it is no whole JSON object", hint=AGAIN) from error
    if not isinstance(content, dict):
        raise InputError(f"{where} is no JSON object", hint=AGAIN)
    schema = content.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise InputError(
            f"{where} has schema {schema!r}, which this version does not know (it reads {SCHEMA})",
            hint="update vlmprompt, or write the file again with 'vlmprompt describe-classes'",
        )
    try:
        return Line.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise InputError(f"{where} is wrong: {key}: {problem['msg']}", hint=AGAIN) from error
