"""The same run with something changed, such as its shots: its configuration, and the command that trains it.

What was given explicitly stays; what came from defaults and shipped settings follows the change, as it would
have on the command line (CoOp trains for 50 epochs at one shot and for 200 at sixteen).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from typing import Any

from vlmprompt.config.keys import NULL, RUN_FIELDS, show_value
from vlmprompt.config.layers import is_implied
from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import resolve

LONGEST_VALUE = 60  # characters of a setting, in tables


def variant(config: RunConfig, sources: Mapping[str, str], **changes: Any) -> RunConfig:
    """The configuration with run-level changes.

    Args:
        sources: dotted key -> where the run's value came from; where nothing is known of a value of [train]
            or [options], it counts as given if it differs from what it would be otherwise.
        changes: run-level fields, such as shots=4 (None: all).

    Raises:
        UsageError: the method's shipped settings do not allow it.
    """
    return _resolved(_changed(config, changes), _given(config, sources))


def differs_in_shots_only(config: RunConfig, other: RunConfig, sources: Mapping[str, str]) -> bool:
    """Whether another run is the variant with its own shots; leave to take fewer images does not matter.

    Args:
        sources: of `config`.
    """
    expected = variant(config, sources, shots=other.shots)
    return expected.model_copy(update={"allow_fewer": other.allow_fewer}) == other


def train_command(config: RunConfig, sources: Mapping[str, str], **changes: Any) -> str:
    """The command that trains `variant`, to be shown to people."""
    words = ["vlmprompt", "train"]
    for key, value in _changed(config, changes).items():
        flag = "--" + key.replace("_", "-")
        shown = show_value(key, value)
        if key in ("shots", "seed") or value != RUN_FIELDS[key].get_default(call_default_factory=True):
            words += _words(key, flag, value, shown)
    for key, value in _given(config, sources).items():
        words += ["--set", f"{key}={show_value(key, value)}"]
    return shlex.join(words)


def unusual(config: RunConfig) -> dict[str, str]:
    """What a configuration sets otherwise than its method, data, towers and shots imply: dotted key -> text.

    Descriptions are left out: their digest says more than a file's name.
    """
    said = {"method", "data", "backbone", "shots", "seed", "descriptions"}
    run = {key: getattr(config, key) for key, field in RUN_FIELDS.items() if key not in said}
    run = {key: value for key, value in run.items() if value != RUN_FIELDS[key].get_default(call_default_factory=True)}
    mine, otherwise = _tables(config), _tables(_resolved(run_level_flags(config), {}))
    tables = {key: value for key, value in mine.items() if value != otherwise.get(key)}
    return {key: _short(show_value(key, value)) for key, value in {**run, **tables}.items()}


def _short(text: str) -> str:
    """A value that fits into a table: of a long one (a list of templates) the beginning, and a digest of the whole."""
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 12]}... {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_level_flags(config: RunConfig) -> dict[str, Any]:
    """The run-level values of a configuration, as `resolve` takes flags."""
    values = {key: getattr(config, key) for key in RUN_FIELDS}
    return values | {"shots": "all" if config.shots is None else config.shots}


def _changed(config: RunConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    return run_level_flags(config.model_copy(update=dict(changes)))


def _words(key: str, flag: str, value: Any, shown: str) -> list[str]:
    if key in ("split_seed", "aliases", "templates"):  # the last two by content, as the run knows it
        return ["--set", f"{key}={shown}"]
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, shown]


def _given(config: RunConfig, sources: Mapping[str, str]) -> dict[str, Any]:
    """Explicit values of [train] and [options] by dotted key."""
    mine, otherwise = _tables(config), _tables(_resolved(run_level_flags(config), {}))

    def given(key: str) -> bool:
        source = sources.get(key)
        return mine[key] != otherwise[key] if source is None else not is_implied(source)

    return {key: value for key, value in mine.items() if given(key)}


def _tables(config: RunConfig) -> dict[str, Any]:
    """[train] and [options] as JSON types, by dotted key."""
    tables = {"train": config.train.model_dump(mode="json"), "options": config.options}
    return {f"{table}.{key}": value for table, values in tables.items() for key, value in values.items()}


def _resolved(run: Mapping[str, Any], given: Mapping[str, Any]) -> RunConfig:
    # "none" as text, because None means that a flag was not given.
    explicit = {key: NULL if value is None else value for key, value in given.items()}
    # Without the present environment: the run was made in another.
    return resolve({**run, **explicit}, env={}).run
