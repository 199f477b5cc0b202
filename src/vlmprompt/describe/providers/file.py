"""Descriptions that others have published, from their JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from vlmprompt.config.aliases import read_aliases
from vlmprompt.data.names import spellings
from vlmprompt.describe.lines import Kind, unicode, written
from vlmprompt.describe.provider import ProviderConfig, Question, Reply, RequestError
from vlmprompt.describe.templates import unasked
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.regular import named_path, regular


class FileConfig(ProviderConfig):
    """Options of the provider."""

    file: Path | None = Field(None, description="JSON of class name -> list of texts; --from")
    aliases: Path | None = Field(
        None, description="lines 'name in the file = name here', or JSON of name here -> name in the file; --aliases"
    )
    kind: Literal["auto", "phrase", "sentence"] = Field(
        "auto", description="what the texts are; auto: sentences if most end like one"
    )


class FileProvider:
    """Imports descriptions from a JSON object: class name -> list of texts.

    This is the shape of classify_by_description (phrases) and of CuPL (whole sentences). Names are compared as a
    text tower reads them; `aliases` bridges other spellings. Neither file is shipped here: mind their licences.
    """

    online: ClassVar[bool] = False

    def __init__(self, config: FileConfig) -> None:
        if config.file is None:
            raise UsageError("provider file needs a file", hint="name it: --from descriptions.json")
        path = config.file
        content, digest = _object(path)
        self._path = path
        self._texts = {written(name): _texts(name, texts, path) for name, texts in content.items()}
        self._names = list(content)
        self._aliases = {} if config.aliases is None else _aliases(config.aliases)
        kind: Kind = _kind(self._texts) if config.kind == "auto" else config.kind
        self.model = unicode(path.stem)
        self.template = unasked(f"{kind}s", kind)
        self.source = f"{unicode(path.name)}, SHA-256 {digest[:16]}"
        self.notes: list[str] = []

    def identity(self) -> Mapping[str, Any]:
        """Nothing is cached."""
        return {}

    async def ask(self, question: Question) -> Reply:
        """The file's texts for a class."""
        here = (question.class_name, *spellings(question.class_name))
        names = [*(there for name in here for there in self._aliases.get(written(name), ())), *here]
        name = next((name for name in names if written(name) in self._texts), names[0])
        texts = self._texts.get(written(name))
        if texts is None:
            near = did_you_mean(name, self._names)
            near = f": {near}" if near.startswith("did") else ""
            raise RequestError(f"{self._path.name} has no class {name!r}{near}")
        if not texts:
            raise RequestError(f"{self._path.name} has no text for {name!r}")
        return Reply(json.dumps(texts))

    async def close(self) -> None:
        """Nothing is open."""


def _object(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON object and the digest of its file."""
    try:
        raw = regular(named_path(path)).read_bytes()
        content = json.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} is no JSON object of class names", hint='as in {"red fox": ["a bushy tail"]}')
    return content, hashlib.sha256(raw).hexdigest()


def _aliases(path: Path) -> dict[str, list[str]]:
    """How a class is read here -> what the file may call it: from lines `there = here`, or JSON {here: there}."""
    if path.suffix.lower() == ".json":
        pairs = [(str(there), here) for here, there in _object(path)[0].items()]
    else:
        pairs = list(read_aliases(named_path(str(path))).items())
    found: dict[str, list[str]] = {}
    for there, here in pairs:
        found.setdefault(written(here), []).append(there)
    return found


def _texts(name: str, texts: Any, path: Path) -> list[str]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path}: what it has for {name!r} is no list of texts")
    return texts


def _kind(texts: Mapping[str, list[str]]) -> Kind:
    every = [text for own in texts.values() for text in own]
    return "sentence" if 2 * sum(map(_is_sentence, every)) > len(every) else "phrase"


def _is_sentence(text: str) -> bool:
    """Three words or more that begin and end like a sentence."""
    end = set(takewhile(lambda c: not c.isalnum(), reversed(text)))
    begins = text[:1] in ('"', "“") or "A" <= text[:1] <= "Z"
    return begins and len(text.split(maxsplit=2)) > 2 and not end.isdisjoint(".!?")
