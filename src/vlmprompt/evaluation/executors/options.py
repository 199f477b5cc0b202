"""Executors by name, made with their options; light until one is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from vlmprompt.config.keys import read_value, reason_of
from vlmprompt.config.layers import set_layer
from vlmprompt.errors import PluginError, UsageError, did_you_mean
from vlmprompt.evaluation.executors.contract import Executor, ExecutorConfig
from vlmprompt.plugins import host
from vlmprompt.registry import Entry

FLAG = "--executor-set"


def read_settings(name: str, assignments: Iterable[str]) -> dict[str, Any]:
    """All `--executor-set OPTION=VALUE`, each value as its option takes it.

    Raises:
        UsageError, PluginError: see `executor_config`.
    """
    fields = _model(host().executors.get(name)).model_fields
    for assignment in assignments:
        if not all(part.strip() for part in assignment.partition("=")[:2]):
            raise UsageError(f"{FLAG} {assignment!r} is not OPTION=VALUE", hint="such as jobs=4")
    values = set_layer(assignments).values
    return {
        key: read_value(key, value, fields[key], source=FLAG) if key in fields else value
        for key, value in values.items()
    }


def executor_config(name: str, options: Mapping[str, Any]) -> ExecutorConfig:
    """The validated options of an executor, complete with defaults.

    Raises:
        UsageError: there is no such executor or option, one is missing, or a value is not allowed.
        PluginError: its plugin failed, or its options are no `ExecutorConfig`.
    """
    model = _model(host().executors.get(name))
    for key in options.keys() - model.model_fields.keys():
        known = did_you_mean(key, model.model_fields) if model.model_fields else "it has none"
        raise UsageError(f"executor {name!r} has no option {key!r}", hint=known)
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        reason = reason_of(problem["msg"])
        key = str(problem["loc"][0]) if problem["loc"] else ""
        field = model.model_fields.get(key)
        about = None if field is None else f"{key}: {field.description}"
        if problem["type"] == "missing":
            raise UsageError(f"executor {name!r} needs option {key}", hint=f"{FLAG} {key}=VALUE") from None
        wrong = f"option {key} = {problem['input']!r} of executor {name!r} is not allowed: it {reason}"
        raise UsageError(wrong, hint=about) from None


def make_executor(name: str, options: Mapping[str, Any] | None = None) -> Executor:
    """An executor, ready to run.

    Raises:
        UsageError, PluginError: see `executor_config`; or what the name stands for is no `Executor`.
        InputError: it lacks something, such as a package or a machine.
    """
    config, entry = executor_config(name, options or {}), host().executors.get(name)
    kind: Any = entry.load()
    if not (isinstance(kind, type) and issubclass(kind, Executor)):
        raise PluginError(
            f"{entry.told}: target = {entry.target} is not an Executor",
            hint=f"name a subclass of Executor; {entry.author}",
        )
    return kind(config)


def _model(entry: Entry) -> type[ExecutorConfig]:
    model: Any = entry.load_config()
    if model is None:
        return ExecutorConfig
    if not (isinstance(model, type) and issubclass(model, ExecutorConfig)):
        raise PluginError(
            f"{entry.told}: config = {entry.config} is not an ExecutorConfig",
            hint=f"name a subclass of ExecutorConfig; {entry.author}",
        )
    return model
