"""What may follow a shard's path: `?label=json.class&image=jpg`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from vlmprompt.errors import UsageError, did_you_mean

_QUERY = re.compile(r"(.*?)\?([A-Za-z_]+=[^?]*)", re.DOTALL)  # a question mark without "=" is a sign of a pattern
KNOWN = ("image", "label")


@dataclass(frozen=True)
class Options:
    """Which parts of a sample are meant.

    Attributes:
        image: suffix of the image; empty for the only one that is a picture's.
        label: suffix of the label, such as "cls" or "txt".
        field: for JSON: the field that holds the label.
    """

    image: str = ""
    label: str = "cls"
    field: str = ""


def split_options(argument: str) -> tuple[str, Options]:
    """The path or pattern, and the options.

    Raises:
        UsageError: an unknown option, or one without a value.
    """
    match = _QUERY.fullmatch(argument)
    if match is None:
        return argument, Options()
    given = dict(parse_qsl(match[2], keep_blank_values=True))
    for key, value in given.items():
        if key not in KNOWN:
            raise UsageError(f"wds:{match[1]} has no option {key!r}", hint=did_you_mean(key, KNOWN))
        if not value:
            raise UsageError(f"wds:{match[1]} has no value for {key}", hint=f"such as ?{key}=txt")
    label, stop, field = given.get("label", "cls").partition(".")
    if label != "json":
        label, stop, field = label + stop + field, "", ""
    elif not field:
        raise UsageError(f"wds:{match[1]}: label=json names no field", hint="such as ?label=json.class")
    return match[1], Options(given.get("image", "").lower().lstrip("."), label.lower(), field)
