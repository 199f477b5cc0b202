"""The options of scores, checked before torch is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vlmprompt.config.keys import read_value, reason_of
from vlmprompt.errors import PluginError, UsageError, did_you_mean
from vlmprompt.methods.score_names import known_scores, score_entry

FLAG = "--score-set"
# Name of a score -> its options that are not left at their defaults.
ScoreOptions = Mapping[str, Mapping[str, Any]]


class ScoreConfig(BaseModel):
    """Base of a score's options: unknown keys are errors. Each field carries `description=`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def score_config(name: str, options: Mapping[str, Any] | None = None) -> ScoreConfig:
    """The validated options of a score, complete with defaults.

    Raises:
        UsageError: there is no such score or option, one is missing, or a value is not allowed.
        PluginError: its plugin failed, or its options are no `ScoreConfig`.
    """
    model, given = _model(name), dict(options or {})
    for key in given.keys() - model.model_fields.keys():
        known = did_you_mean(key, model.model_fields) if model.model_fields else "it has none"
        raise UsageError(f"score {name!r} has no option {key!r}", hint=known)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _explained(name, model, error) from None


def measured_scores(options: ScoreOptions) -> list[str]:
    """The scores that are measured where none is asked for: all that have the options that they need.

    Args:
        options: what is said of options.
    """
    return [name for name in known_scores() if name in options or not _is_incomplete(name)]


def require_options(options: ScoreOptions) -> None:
    """Refuse options that no score has. Raises: see `score_config`."""
    for name, given in options.items():
        score_config(name, given)


def read_score_settings(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """All `--score-set NAME.OPTION=VALUE`, each value as its option takes it.

    Raises:
        UsageError: an assignment of another form, or see `score_config`.
    """
    from vlmprompt.config.layers import set_layer

    found: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, dot, rest = assignment.partition(".")
        if not dot or "=" not in rest or "=" in name:
            raise UsageError(
                f"{FLAG} {assignment!r} is not NAME.OPTION=VALUE", hint="such as negatives.words=words.txt"
            )
        ((key, value),) = set_layer([rest]).values.items()
        fields = _model(name).model_fields
        found.setdefault(name, {})[key] = (
            read_value(key, value, fields[key], source=FLAG) if key in fields else str(value)
        )
    require_options(found)
    return found


def _model(name: str) -> type[ScoreConfig]:
    entry = score_entry(name)
    model: Any = entry.load_config()
    if model is None:
        return ScoreConfig
    if not (isinstance(model, type) and issubclass(model, ScoreConfig)):
        raise PluginError(
            f"{entry.told}: config = {entry.config} is not a ScoreConfig",
            hint=f"name a subclass of ScoreConfig; {entry.author}",
        )
    return model


def _is_incomplete(name: str) -> bool:
    """Whether a score has an option without a default; one whose options cannot be loaded says so when measured."""
    try:
        return any(field.is_required() for field in _model(name).model_fields.values())
    except PluginError:
        return False


def _explained(name: str, model: type[ScoreConfig], error: ValidationError) -> UsageError:
    """The first wrong option in one line; the hint is what the option means."""
    problem = error.errors(include_url=False)[0]
    reason = reason_of(problem["msg"])
    if not problem["loc"]:
        return UsageError(f"the options of score {name!r} do not fit together: {reason}")
    key = str(problem["loc"][0])
    about = model.model_fields[key].description or ""
    if problem["type"] == "missing":
        return UsageError(f"score {name!r} needs option {key}", hint=f"{FLAG} {name}.{key}=VALUE: {about}")
    wrong = f"option {key} = {problem['input']!r} of score {name!r} is not allowed: it {reason}"
    return UsageError(wrong, hint=f"{key}: {about}" if about else None)
