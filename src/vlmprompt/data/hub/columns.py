"""Which columns of a table hold the image and the label, and whether they can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmprompt.errors import InputError, did_you_mean

_VALUES = {"string": "text", "large_string": "text", "string_view": "text", "bool": "true or false", "null": "nothing"}
_VALUES |= {"binary": "bytes", "large_binary": "bytes"}
_OTHERS = {"Image": "an image", "ClassLabel": "a class", "List": "a list", "LargeList": "a list", "dict": "fields"}
IMAGES = ("an image", "bytes")
LABELS = ("a class", "text", "an integer")


def holds(feature: Any) -> str:
    """What a row of a column holds, in words."""
    dtype = str(getattr(feature, "dtype", ""))
    if isinstance(feature, Mapping) and set(feature) == {"bytes", "path"}:  # as tools that know no Image write one
        return "an image"
    if type(feature).__name__ != "Value":
        return _OTHERS.get(type(feature).__name__, f"a {type(feature).__name__}")
    if "int" in dtype:
        return "an integer"
    return _VALUES.get(dtype, "a fraction" if dtype.startswith(("float", "decimal")) else dtype)


def image_column(table: Any, given: str | None) -> str:
    """The column of images: the one given, the only one, or the one that is called like it.

    Raises:
        InputError: it is not evident, not there, or holds no single image a row.
    """
    if given is not None:
        return _checked(table, given, "image", IMAGES, "one image a row; lists of paths are read by csv:")
    fits = _of_kind(table, "an image")
    if len(fits) == 1 or "image" in fits:
        return "image" if "image" in fits else fits[0]
    if fits or _of_kind(table, "bytes"):
        raise _not_evident(table, "image")
    raise InputError(
        f"no column holds one image a row: {_columns(table)}",
        hint="lists of paths are read by csv:; else save it with a column of one image a row (Dataset.map, flatten)",
    )


def label_column(table: Any, given: str | None) -> str:
    """The column of labels: the one given, the one called "label", or else the only one of classes.

    Raises:
        InputError: it is not evident, not there, or holds no single class a row.
    """
    fits = _of_kind(table, "a class")
    column = given or ("label" if "label" in table.column_names or len(fits) != 1 else fits[0])
    if given is None and column not in table.column_names:
        raise _not_evident(table, "label")
    return _checked(table, column, "label", LABELS, "one class a row; another column is named after the path: ?label=")


def _of_kind(table: Any, kind: str) -> list[str]:
    features: Mapping[str, Any] = table.features
    return [name for name, feature in features.items() if holds(feature) == kind]


def _checked(table: Any, column: str, what: str, kinds: tuple[str, ...], wanted: str) -> str:
    if column not in table.column_names:
        hint = did_you_mean(column, table.column_names)
        raise InputError(f"the Hugging Face data set has no column {column!r}", hint=hint)
    kind = holds(table.features[column])
    if kind not in kinds:
        raise InputError(
            f"column {column!r} cannot be the {what}: a row of it holds {kind}", hint=f"needed is {wanted}"
        )
    return column


def _not_evident(table: Any, what: str) -> InputError:
    hint = f"say it after the name: ?{what}=COLUMN"
    return InputError(f"the {what} column is not evident among {_columns(table)}", hint=hint)


def _columns(table: Any) -> str:
    return ", ".join(f"{name} ({holds(feature)})" for name, feature in table.features.items())
