"""Settings with several values each, of which every combination is to be tried: `--grid lr=0.002,0.01`."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Iterable, Mapping

from vlmprompt.config.keys import Text, full_key, show_value, unknown_key
from vlmprompt.config.layers import Layer
from vlmprompt.config.models import Runtime, TrainConfig
from vlmprompt.config.resolve import Resolved
from vlmprompt.errors import UsageError

SOURCE = "--grid"
Combination = Mapping[str, Text]  # key as typed -> value as typed
# Axes of a sweep with flags of their own.
_AXES = {"method": "--method", "data": "--data", "shots": "--shots", "seed": "--seed"}
_EXAMPLE = "for example --grid lr=0.002,0.01"
_PAIRS = {"[": "]", "{": "}", "(": ")"}
_MOST_IN_NAME = 40  # characters of a value
_UNSAFE = re.compile(r"[^\w.+-]+")


def combinations(assignments: Iterable[str]) -> list[Combination]:
    """Every combination of the values that `--grid` names; one without any where it names nothing.

    Args:
        assignments: `key=value,value` texts; commas within brackets and quotes part nothing.

    Raises:
        UsageError: an assignment without a key or with an empty value, a key or a value that stands twice, or a key
            that has a flag of its own.
    """
    values: dict[str, list[Text]] = {}
    for assignment in assignments:
        key, listed = _read(assignment)
        if key in values:
            raise UsageError(f"--grid {key} is given twice", hint=f"list its values once: --grid {key}=A,B")
        values[key] = listed
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def without_training(found: Iterable[Combination]) -> list[Combination]:
    """What is left of them, each once, where nothing is trained: without [train]. At least one, perhaps empty."""
    fields = TrainConfig.model_fields
    left = [{k: v for k, v in one.items() if k.removeprefix("train.") not in fields} for one in found]
    return list({tuple(one.items()): one for one in left}.values()) or [{}]


def layer_of(combination: Combination) -> Layer:
    """A combination as a source of configuration."""
    return Layer(SOURCE, combination, bare=True)


def require_keys(combination: Combination, method: str, fields: Collection[str]) -> None:
    """Refuse a setting that a method does not have.

    Args:
        fields: every dotted key of a run of the method.

    Raises:
        UsageError: names both, and the nearest settings.
    """
    known = {*fields, *(name.rpartition(".")[2] for name in fields)}
    for key in combination:
        if key not in known:
            error = unknown_key(key, fields, source=SOURCE)
            if key in Runtime.model_fields:
                raise error
            raise UsageError(f"method {method!r} has no setting {key!r} ({SOURCE})", hint=error.hint)


def require_alone(resolved: Resolved, combination: Combination) -> None:
    """Refuse settings that another option of the command decides as well.

    Raises:
        UsageError: names both.
    """
    for key, full in _full(resolved, combination).items():
        sources = [said.source for said in resolved.said[full]]
        others = [source for source in sources if source.startswith("--") and source != SOURCE]
        if others or sources.count(SOURCE) > 1:
            other = others[0] if others else f"{SOURCE} again"
            raise UsageError(f"{key} is given by {SOURCE} and by {other}", hint="leave one of them out")


def label_of(resolved: Resolved, combination: Combination) -> str:
    """A combination in the name of a folder: "lr=0.01-n_ctx=4"; the same values always give the same."""
    values = shown_values(resolved, combination)
    return "-".join(f"{key.rpartition('.')[2]}={_in_a_name(value)}" for key, value in values.items())


def shown_values(resolved: Resolved, combination: Combination) -> dict[str, str]:
    """Dotted key -> value, settled, as `--set` would read it."""
    run = resolved.run.model_dump(mode="json")
    values = {}
    for full in _full(resolved, combination).values():
        table, _, name = full.rpartition(".")
        values[full] = show_value(full, run[table][name] if table else run[name])
    return values


def split_values(text: str) -> list[str]:
    """A list with commas; those within brackets and quotes part nothing: "[1,2],[3]" -> "[1,2]", "[3]"."""
    parts, begin, closing, quote = [], 0, "", ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in _PAIRS:
            closing = _PAIRS[sign] + closing
        elif closing and sign == closing[0]:
            closing = closing[1:]
        elif sign == "," and not closing:
            parts.append(text[begin:place])
            begin = place + 1
    return [part.strip() for part in (*parts, text[begin:])]


def _full(resolved: Resolved, combination: Combination) -> dict[str, str]:
    return {key: full_key(key, resolved.said, source=SOURCE) for key in combination}


def _in_a_name(value: str) -> str:
    """What would not be safe there, or too long, is told apart by a digest."""
    safe = _UNSAFE.sub("_", value)[:_MOST_IN_NAME]
    return safe if safe == value else f"{safe}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"


def _read(assignment: str) -> tuple[str, list[Text]]:
    key, equals, rest = (part.strip() for part in assignment.partition("="))
    if not (equals and key and rest):
        raise UsageError(f"--grid {assignment!r} is not key=value,value", hint=_EXAMPLE)
    if key in _AXES:
        raise UsageError(f"--grid {key} has a flag of its own", hint=f"write {_AXES[key]} once for each value")
    listed = split_values(rest)
    for value in listed:
        if not value:
            raise UsageError(f"--grid {assignment!r} has an empty value", hint=_EXAMPLE)
        if listed.count(value) > 1:
            raise UsageError(f"--grid {key} lists {value} twice", hint="list each value once")
    return key, [Text(value) for value in listed]
