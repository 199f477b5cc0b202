"""The names a run's configuration has, and how a value written as text becomes one of theirs.

A dotted key is a field of `RunConfig` ("shots"), "train.<field>", or "options.<field>" of the method.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vlmprompt.config.models import RunConfig, Runtime, TrainConfig
from vlmprompt.config.toml import parse_toml
from vlmprompt.errors import UsageError, did_you_mean
from vlmprompt.shown import problem

RUN_FIELDS: Mapping[str, FieldInfo] = MappingProxyType(
    {name: field for name, field in RunConfig.model_fields.items() if name not in ("train", "options")}
)
TRAIN_FIELDS: Mapping[str, FieldInfo] = MappingProxyType(
    {f"train.{name}": field for name, field in TrainConfig.model_fields.items()}
)
FIXED_FIELDS: Mapping[str, FieldInfo] = MappingProxyType({**RUN_FIELDS, **TRAIN_FIELDS})
NULL = "none"


class Text(str):
    """A value as typed in the environment or after `--set key=`: TOML, or a bare string."""


def reason_of(message: str) -> str:
    """What pydantic says of a value in one line, to follow "it"."""
    return message.removeprefix("Value error, ").removeprefix("Input ").replace("\n", " ")


def option_fields(config: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The dotted keys of a method's options."""
    return {f"options.{name}": field for name, field in config.model_fields.items()} if config else {}


def dumped_options(options: BaseModel) -> dict[str, Any]:
    """Options as run.json keeps them and a command line could say them: what was set, and nothing computed from it."""
    return options.model_dump(mode="json", round_trip=True)


def unfit_options(config: type[BaseModel]) -> str | None:
    """Why a model of options cannot be set by name and read back from run.json; None where it can."""
    for name, field in config.model_fields.items():
        if field.alias is not None or field.validation_alias is not None or field.serialization_alias is not None:
            return f"option {name!r} has an alias, but it is set, kept and shown by one name"
    if any(field.is_required() for field in config.model_fields.values()):
        return None  # there is nothing to try it with
    try:
        default = config()
        written = dumped_options(default)
        again = config.model_validate(written)
    except ValueError as error:
        reason = problem(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        return f"its defaults do not come back from run.json: {reason}"
    for name in config.model_fields:
        if name not in written or getattr(default, name) != getattr(again, name):
            return f"option {name!r} does not come back from run.json as it was"
    return None


def full_key(key: str, fields: Collection[str], *, source: str) -> str:
    """The dotted key meant by `key`, which may leave "train." or "options." out where only one fits.

    Raises:
        UsageError: no such key, or two that fit.
    """
    if key in fields:
        return key
    fits = [f"{table}.{key}" for table in ("train", "options") if f"{table}.{key}" in fields]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise UsageError(f"key {key!r} ({source}) is short for both {fits[0]} and {fits[1]}", hint="write it in full")
    raise unknown_key(key, fields, source=source)


def unknown_key(key: str, fields: Iterable[str], *, source: str) -> UsageError:
    """The error for a key that no configuration has."""
    if key in Runtime.model_fields:
        flag = "--" + key.replace("_", "-")
        return UsageError(f"{key!r} ({source}) is not part of a run's configuration", hint=f"give it as {flag}")
    whole, _, inner = key.rpartition(".")
    if whole in fields:
        step = f"--set '{whole}={{ {inner} = ... }}', which leaves all else in it at its default"
        return UsageError(f"{whole} is set as a whole, not by {key!r} ({source})", hint=step)
    table = key.rpartition(".")[0]
    near = [name if table else name.rpartition(".")[2] for name in fields if not table or name.startswith(table)]
    return UsageError(f"unknown configuration key {key!r} ({source})", hint=did_you_mean(key, near or fields))


def read_value(key: str, value: Any, field: FieldInfo, *, source: str) -> Any:
    """A value as its field will check it: text parsed, "none" and (for shots) "all" made null.

    Raises:
        UsageError: a number that is not finite, or true/false where the field is none of the two.
    """
    kinds = _kinds(field.annotation)
    if isinstance(value, Text):
        value = _parse(value, text_only=kinds <= {str, NoneType})
    nulls = {NULL, "null", *(["all"] if key == "shots" else [])}
    if isinstance(value, str) and NoneType in kinds and value.lower() in nulls:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{key} = {value} ({source}) is not a finite number", hint=about(key, field))
    if isinstance(value, bool) and not kinds & {bool, object}:
        raise UsageError(
            f"{key} = {str(value).lower()} ({source}) is not allowed: it is no true/false setting",
            hint=about(key, field),
        )
    return value


def show_value(key: str, value: Any) -> str:
    """A value as `--set` would read it back."""
    if value is None:
        return "all" if key == "shots" else NULL
    if key == "image_size" and not isinstance(value, int | str):
        return "x".join(map(str, value))
    if isinstance(value, BaseModel):
        value = dumped_options(value)
    if isinstance(value, Mapping):  # JSON and TOML write all else alike
        pairs = (f"{_json(name)} = {_json(inner)}" for name, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    return value if isinstance(value, str) else _json(value)


def about(key: str, field: FieldInfo) -> str | None:
    """One line on a key, for hints."""
    return f"{key}: {field.description}" if field.description else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _parse(text: str, *, text_only: bool) -> Any:
    """TOML where it is TOML, the text itself otherwise (`text_only`: unless it is a quoted string)."""
    try:
        table = parse_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return str(text)
    value = table["value"]
    wanted: tuple[type, ...] = (str,) if text_only else (str, bool, int, float, list, dict)
    # A line break in the text could smuggle a second key in; dates are no type of any option.
    return value if len(table) == 1 and isinstance(value, wanted) else str(text)


def _kinds(annotation: Any) -> set[type]:
    """The types a field takes, seen through unions, Annotated and Literal; `object` for Any."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return set().union(*(_kinds(arg) for arg in get_args(annotation)))
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    kind = origin or annotation
    return {kind if isinstance(kind, type) else object}
