"""What a method says of itself before it is used: its words, its options, the settings that it ships."""

from __future__ import annotations

from pydantic import ValidationError

from vlmprompt.config.models import TrainConfig
from vlmprompt.config.overrides import shipped
from vlmprompt.conformance.check import BrokenRuleError, require, skip
from vlmprompt.conformance.methods.case import MethodCase, options_model
from vlmprompt.errors import UsageError
from vlmprompt.methods.build import method_config
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.declared import require_overrides, require_type

UNKNOWN = "no_such_option"


def says_what_it_is(case: MethodCase) -> None:
    """A method has a summary for lists and a docstring of its own for `methods show`."""
    cls = require_type(case.entry)
    require(bool(cls.__doc__), f"class {cls.__name__} has no docstring", "say its formula and its paper in it")
    require(bool(case.entry.summary.strip()), f"{case.entry.told} has no summary", "give register() a summary=")


def describes_its_options(case: MethodCase) -> None:
    """Every option says what it means."""
    silent = [name for name, field in options_model(case).model_fields.items() if not field.description]
    require(
        not silent,
        f"no description of the options {', '.join(silent)}",
        "write Field(default, description=...), with unit and source",
    )


def refuses_unknown_options(case: MethodCase) -> None:
    """A misspelt option is an error."""
    model = options_model(case)
    if model is not MethodConfig:
        given = {**method_config(case.name, case.options).model_dump(), UNKNOWN: 1}
        try:
            model.model_validate(given)
        except ValidationError:
            return
        raise BrokenRuleError(
            f"{model.__name__} takes an option {UNKNOWN!r} that it does not have",
            'keep extra="forbid" of MethodConfig: leave model_config alone, or repeat it',
        )
    try:
        method_config(case.name, {UNKNOWN: 1})
    except UsageError:
        return
    raise BrokenRuleError(f"an option {UNKNOWN!r} is taken", "register the class of its options with config=")


def keeps_its_options_in_json(case: MethodCase) -> None:
    """Options are the same after they were written into run.json and read again."""
    config = method_config(case.name, case.options)
    written = config.model_dump(mode="json")
    read = method_config(case.name, written)
    require(
        read == config,
        f"options {written} become {read.model_dump(mode='json')} when they are read again",
        "make validators accept what they gave, and types those that JSON has",
    )


def ships_valid_settings(case: MethodCase) -> None:
    """Every setting in the overrides file is known and allowed."""
    require_overrides(case.entry)
    overrides = shipped(case.entry.overrides, case.entry.told)
    if not overrides:
        skip("it ships no settings")
    always = [one for one in overrides if not one.when]
    for override in overrides:
        train = {key: value for one in (*always, override) for key, value in one.train.items()}
        options = {key: value for one in (*always, override) for key, value in one.options.items()}
        where = f"{case.entry.overrides} [{override.conditions or 'always'}]"
        try:
            TrainConfig(**train)
            method_config(case.name, options)
        except (ValidationError, UsageError) as error:
            reason = str(error).replace("\n", " ")
            raise BrokenRuleError(f"{where} is not allowed: {reason}", "correct the value") from error
