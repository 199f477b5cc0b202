"""Where configuration values come from. Each source becomes a `Layer`; later layers win."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprompt.config.keys import RUN_FIELDS, Text
from vlmprompt.config.models import RunConfig
from vlmprompt.config.toml import read_toml
from vlmprompt.errors import UsageError

ENV_PREFIX = "VLMPROMPT_"
TABLES = ("train", "options")
TRACKER = "tracker"  # a key of files alone


@dataclass(frozen=True)
class Layer:
    """What one source says.

    Attributes:
        source: how to call the source in messages, such as "run.toml" or "env VLMPROMPT_SHOTS".
        values: key -> value; keys are dotted, or bare where `bare` is true.
        bare: "lr" may stand for "train.lr".
    """

    source: str
    values: Mapping[str, Any]
    bare: bool = False


def is_shipped(source: str) -> bool:
    """Whether nobody here chose what this source says: it is a default, or a setting that its method ships."""
    return source == "default" or source.startswith(("default of ", "override "))


def is_implied(source: str) -> bool:
    """Whether a value with this source was not given by itself: it is shipped, or comes from a preset or templates."""
    return is_shipped(source) or source.startswith(("preset ", "templates "))


def file_layer(path: Path) -> Layer:
    """A run.toml: run-level keys at the top, tables [train] and [options].

    Raises:
        UsageError: unreadable, not TOML, or a table that is none.
    """
    content = {key: value for key, value in _content(path).items() if key != TRACKER}
    return Layer(path.name, flatten(content, source=path.name))


def file_trackers(path: Path | None) -> tuple[str, ...]:
    """The trackers that a run.toml names, which is where a run is told of and no part of its configuration.

    Raises:
        UsageError: it cannot be read (see `file_layer`), or says something else than names.
    """
    if path is None:
        return ()
    named = _content(path).get(TRACKER, [])
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{TRACKER} ({path.name}) must be a name or a list of names", hint='tracker = ["tensorboard"]')
    return tuple(names)


def _content(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration file {path}: {error.strerror}", hint="check --config"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}", hint="'vlmprompt config show' shows the keys") from error


def flatten(content: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Nested tables as dotted keys; a table below [options] is a value of its own."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key not in TABLES:
            flat[key] = value
        elif isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            raise UsageError(f"{key!r} ({source}) must be a table", hint=f"write [{key}] and one key a line below it")
    return flat


def env_layers(env: Mapping[str, str]) -> list[Layer]:
    """The variables that name keys: VLMPROMPT_SHOTS, VLMPROMPT_TRAIN_LR, VLMPROMPT_OPTIONS_DEPTH.

    Other VLMPROMPT_ variables (VLMPROMPT_ROOT, ...) are not configuration of a run; empty ones are unset.
    """
    layers = []
    for variable in sorted(env):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if name == variable.lower() or not env[variable]:
            continue
        table, _, rest = name.partition("_")
        key = f"{table}.{rest}" if table in TABLES and rest else name
        if "." in key or key in RUN_FIELDS:
            layers.append(Layer(f"env {variable}", {key: Text(env[variable])}))
    return layers


def set_layer(assignments: Iterable[str]) -> Layer:
    """All `--set key=value`; a key may be given bare.

    Raises:
        UsageError: an assignment without "=".
    """
    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {assignment!r} is not key=value", hint="for example --set train.lr=0.002")
        values[key.strip()] = Text(value.strip())
    return Layer("--set", values, bare=True)


def flag_layers(flags: Mapping[str, Any], *, arguments: bool = False) -> list[Layer]:
    """Command-line flags by dotted key; None means that the flag was not given.

    Args:
        arguments: they are arguments of a call from Python, and are called so.
    """

    def source(key: str) -> str:
        name = key.rpartition(".")[2]
        return f"argument {name}" if arguments else "--" + name.replace("_", "-")

    return [Layer(source(key), {key: value}) for key, value in flags.items() if value is not None]


def config_layer(config: RunConfig, source: str) -> Layer:
    """A whole configuration."""
    return Layer(source, flatten(config.model_dump(mode="json"), source=source))
