"""The questions that are asked: shipped ones by name, or a user's file."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vlmprompt.config.toml import parse_toml
from vlmprompt.describe.lines import Kind, unicode, visible
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.regular import named_path

DEFAULT = "features"
CLASS = "{class}"
AS_IT_IS = "{phrase}"  # the text where nothing was asked: the description alone


@dataclass(frozen=True)
class Template:
    """A question.

    Attributes:
        name: goes into file names.
        text: holds {class}.
        kind: what the answer is a list of.
        about: one line for people.
    """

    name: str
    text: str
    kind: Kind = "phrase"
    about: str = ""

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def ask(self, class_name: str) -> str:
        """The question about a class."""
        return self.text.replace(CLASS, question_name(class_name))


def unasked(name: str, kind: Kind = "phrase") -> Template:
    """What stands in a template's place where nothing is asked in words: the text is the description alone.

    Args:
        name: goes into file names.
        kind: "phrase" or "sentence", what the descriptions are.
    """
    return Template(name, AS_IT_IS, kind)


def question_name(class_name: str) -> str:
    """A class name as a question spells it: underscores are spaces, and what no one sees is gone."""
    return " ".join(visible(class_name.replace("_", " ")).split())


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")
    about: str = ""
    kind: Literal["phrase", "sentence"] = "phrase"
    text: str


@cache
def shipped() -> dict[str, Template]:
    """The questions that come with the package, by name."""
    content = files(__package__).joinpath("templates.toml").read_text(encoding="utf-8")
    return {name: Template(name, **table) for name, table in tomllib.loads(content).items()}


def load_template(spec: str) -> Template:
    """A question by its shipped name or from a file: a text, or TOML with text, kind and about.

    Raises:
        UsageError: no such name and no such file.
        InputError: the file cannot be read, or its text has no place for the class.
    """
    if spec in shipped():
        return shipped()[spec]
    try:
        path = named_path(spec)
        there = path.is_file()
    except (OSError, ValueError):  # too long for a path
        there = False
    if not there:
        known = did_you_mean(spec, shipped())
        raise UsageError(f"there is no template {spec!r}, shipped or as a file", hint=known)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read template {path}: {error}", hint="save it as UTF-8 text") from error
    table = _table(content, path) if path.suffix == ".toml" else {"text": content.strip()}
    template = Template(unicode(path.stem), **table)
    if CLASS not in template.text:
        raise InputError(
            f"template {path} does not say where the class name stands", hint=f"write {CLASS} in its place"
        )
    return template


def _table(content: str, path: Path) -> dict[str, Any]:
    try:
        return _Table.model_validate(parse_toml(content)).model_dump()
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"template {path} is not TOML: {error}", hint="or name it .txt: the text alone") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"template {path}: {key}: {problem['msg']}", hint="it may have text, kind and about"
        ) from error
