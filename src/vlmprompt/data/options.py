"""What may follow a path in a spec: `folder:photos?train=seg_train&test=seg_test`."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, unquote

from vlmprompt.errors import UsageError, did_you_mean


def split_argument(scheme: str, argument: str, known: Collection[str], root: Path | None) -> tuple[str, dict[str, str]]:
    """The path of a spec's argument, and its options.

    A path that is there as it is written has no options, whatever its name.

    Args:
        known: names of options.

    Raises:
        UsageError: an option is unknown, given twice, or has no value.
    """
    path, mark, query = argument.rpartition("?")
    if not mark or any((place / argument).exists() for place in (Path(), root or Path())):
        return argument, {}
    options: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key not in known:
            raise UsageError(f"{scheme}:{path} has no option {key!r}", hint=did_you_mean(key, known))
        if key in options or not value:
            problem = "is given twice" if key in options else "has no value"
            raise UsageError(f"option {key!r} of {scheme}:{path} {problem}", hint=f"write it once: ?{key}=VALUE")
        options[key] = unquote(value)
    return path, options


def as_value(text: str) -> str:
    """A text as the value of an option, as a user has to write it."""
    return re.sub(r"[?&%]", lambda sign: quote(sign[0]), text)
