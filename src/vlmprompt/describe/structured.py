"""From the JSON that a model wrote to the descriptions in it: which of its texts they are.

Asked for {"descriptions": [...]}, models write objects of their own making: one for each description, with an
explanation beside it; lists by topic; the schema itself, filled in or not. What cannot be told apart is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlmprompt.describe.thoughts import UnclearError

ASKED = "descriptions"  # the key that the schema asks for
# Under which key an object has its description, the surest first; each also in the plural and with a number behind.
_TEXTS = (
    *("description", "phrase", "sentence", "text", "descriptor", "feature", "characteristic", "trait", "attribute"),
    *("property", "detail", "content", "value", "item", "answer", "name"),
)
# What stands beside descriptions and is none.
_ASIDE = re.compile(
    r"(?:class|species|label|category|type|kind|id|index|number|rank|title|subject|object|query|question|topic|language|"
    r"score|confidence|weight|importance|source|role|model|status|error|thoughts?|thinking|reason(?:ing)?|rationale|"
    r"analysis|explanation|justification|why|notes?|comments?|summary|introduction|conclusion|example|image|photo)(?:s|es)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[_\s-]*\d+$")
_TYPES = frozenset({"string", "array", "object", "number", "integer", "boolean"})
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,;]*")


def documents(text: str) -> list[Any]:
    """The JSON values in a text, one behind the other, such as JSON Lines.

    Raises:
        ValueError: there is something else in it.
    """
    found, at = [], 0
    while at < len(text):
        value, end = _DECODER.raw_decode(text, at)
        found.append(value)
        between = _BETWEEN.match(text, end)
        at = len(text) if between is None else between.end()
    return found


def descriptions(values: Sequence[Any]) -> list[str]:
    """The descriptions in JSON values.

    Raises:
        UnclearError: it cannot be told which of the texts they are, or there is a schema in their place.
    """
    value: Any = values[0] if len(values) == 1 else list(values)
    asked = list(_under(ASKED, value))
    if not asked:
        schemas = [one for one in values if _is_schema(one)]
        if schemas:
            raise UnclearError("it repeats the schema and fills nothing in")
        if any(_is_call(one) for one in values):
            raise UnclearError("it calls a tool in place of an answer")
    found = list(_texts(asked if asked else value))
    if found and _TYPES.issuperset(text.strip(" .").casefold() for text in found):
        raise UnclearError("it repeats the schema and fills nothing in")
    return found


def _under(key: str, value: Any) -> Iterator[list[Any]]:
    """All lists under a key, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name.strip().casefold() == key and isinstance(inner, list):
                yield inner
            else:
                yield from _under(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _under(key, inner)


def _is_schema(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(value.get(key), Mapping) for key in ("schema", "json_schema", "properties")):
        return True
    return "$schema" in value or (value.get("type") in _TYPES and ("items" in value or "required" in value))


def _is_call(value: Any) -> bool:
    """Whether an object names a tool and what it is to be given."""
    if not isinstance(value, Mapping):
        return False
    named, given = ("name", "tool", "function", "tool_name"), ("arguments", "parameters", "args", "input", "tool_input")
    return any(key in value for key in given) and any(isinstance(value.get(key), str) for key in named)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, in order; of an object its lists or, if it has none, its text or texts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        fields = {key: inner for key, inner in value.items() if not _ASIDE.fullmatch(_plain(key))}
        nested = [inner for inner in fields.values() if isinstance(inner, list | Mapping)]
        if nested:
            for inner in nested:
                yield from _texts(inner)
        else:
            yield from _own_texts({key: inner for key, inner in fields.items() if isinstance(inner, str)})
    elif isinstance(value, list):
        objects = [inner for inner in value if isinstance(inner, Mapping)]
        yield from _texts_of_objects(objects) if len(objects) == len(value) else _each(value)


def _each(values: Sequence[Any]) -> Iterator[str]:
    for inner in values:
        yield from _texts(inner)


def _texts_of_objects(objects: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of objects in a list: the description of each, under the same key if there are several."""
    keys = {_plain(key): key for key, inner in objects[0].items() if isinstance(inner, str)} if objects else {}
    for name in _TEXTS:
        key = keys.get(name)
        if key is not None and all(isinstance(one.get(key), str) for one in objects):
            yield from (one[key] for one in objects)
            return
    for one in objects:
        texts = list(_texts(one))
        if len(texts) > 1 and not any(isinstance(inner, list | Mapping) for inner in one.values()):
            raise UnclearError(f"it has objects of several texts, {', '.join(map(repr, list(one)[:4]))}")
        yield from texts


def _own_texts(fields: Mapping[str, str]) -> Iterator[str]:
    """Of an object of texts: the one under a known key, or all where the keys only name or count them."""
    known = [(key, _plain(key)) for key in fields]
    for name in _TEXTS:
        of_name = [key for key, plain in known if plain == name]
        if of_name:
            yield from (fields[key] for key in of_name)
            return
    wordy = next((key for key in fields if len(key.split()) > 1 and not _NUMBER.search(key)), None)
    if wordy is not None:  # "bushy tail": "long and red": the description is the key, or the two together
        raise UnclearError(f"it describes {wordy!r} in place of the class")
    yield from fields.values()


def _plain(key: str) -> str:
    """A key in small letters, in the singular and without its number."""
    name = _NUMBER.sub("", key.strip().casefold())
    return name[:-1] if len(name) > 3 and name.endswith("s") and name[:-1] in _TEXTS else name
