"""One configuration from many sources, and where each value came from.

Precedence, lowest first: defaults < the protocol's and the method's shipped overrides < --preset < the run's templates
< --config run.toml < VLMPROMPT_* environment < --set key=value < flags. The run-level keys are settled first, because
the overrides depend on them (data set, shots, setting, protocol) and so does the method, whose options are only known
once it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vlmprompt.config.keys import (
    FIXED_FIELDS,
    RUN_FIELDS,
    TRAIN_FIELDS,
    about,
    dumped_options,
    full_key,
    option_fields,
    read_value,
    reason_of,
    show_value,
    unfit_options,
    unknown_key,
)
from vlmprompt.config.layers import Layer, config_layer, env_layers, file_layer, flag_layers, set_layer
from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.config.overrides import override_layers, protocol_layers
from vlmprompt.config.templates import template_values
from vlmprompt.errors import PluginError, UsageError, did_you_mean

EXAMPLE = "--method bloom ('vlmprompt methods list' lists what there is)"
BASE = "run.json"  # how the source of a value of `base` is called
Model = TypeVar("Model", bound=BaseModel)


class UnsaidError(UsageError):
    """Nothing says what has no default."""


class MethodEntry(Protocol):
    """What is read of a registered method."""

    @property
    def name(self) -> str: ...
    @property
    def overrides(self) -> str | None: ...
    @property
    def told(self) -> str: ...
    def load_config(self) -> type[Any] | None: ...


class Methods(Protocol):
    """The registry of methods."""

    def get(self, name: str) -> MethodEntry: ...


@dataclass(frozen=True)
class Said:
    """What one source says of a key."""

    source: str
    value: Any


@dataclass(frozen=True)
class Resolved:
    """A validated configuration.

    Attributes:
        run: the configuration; `options` holds every option of the method, defaults included.
        said: dotted key -> what each source said of it, lowest precedence first; the last one counts.
    """

    run: RunConfig
    said: Mapping[str, tuple[Said, ...]]

    @property
    def sources(self) -> dict[str, str]:
        """Dotted key -> where its value came from."""
        return {key: said[-1].source for key, said in self.said.items()}


def resolve(
    flags: Mapping[str, Any],
    *,
    sets: Sequence[str] = (),
    more: Sequence[Layer] = (),
    config_file: Path | None = None,
    env: Mapping[str, str] | None = None,
    methods: Methods | None = None,
    base: RunConfig | None = None,
    arguments: bool = False,
) -> Resolved:
    """Merge all sources and validate the outcome.

    Args:
        flags: dotted key -> value; None where a flag was not given. Text is taken as it is ("all" shots).
        sets: `key=value` assignments, values in TOML or as bare strings.
        more: further sources, stronger than `sets`.
        config_file: a run.toml.
        env: environment variables; default the process's.
        methods: where methods are looked up; default the plugin host.
        base: the configuration of a run that is there; what is given otherwise differs from it in nothing else. The
            process's environment, in which it may not have been made, is left aside.
        arguments: see `flag_layers`.

    Raises:
        UsageError: unknown keys, bad or missing values, an unknown method or preset.
        PluginError: the method cannot be loaded, or its overrides are broken.
    """
    layers = [] if base is None else [config_layer(base, BASE)]
    layers += [file_layer(config_file)] if config_file else []
    layers += env_layers((os.environ if base is None else {}) if env is None else env)
    layers += [set_layer(sets), *more, *flag_layers(flags, arguments=arguments)]
    _reject_unknown(layers)
    book = _Book(FIXED_FIELDS)
    book.defaults(RUN_FIELDS, "default")
    book.add(_only(layers, RUN_FIELDS))
    book.require_all()
    run = book.checked(RunConfig)
    if base is not None and run.method != base.method:
        layers[0] = _only(layers[:1], FIXED_FIELDS)[0]
    entry = (methods or _host_methods()).get(run.method)
    config = _options_of(entry)
    options = option_fields(config)
    book.fields = {**FIXED_FIELDS, **options}
    book.defaults(TRAIN_FIELDS, "default")
    book.defaults(options, f"default of {run.method}")
    book.add(protocol_layers(run, known=book.fields))
    book.add(override_layers(entry.overrides, run, known=book.fields, owner=entry.told))
    book.add(_preset_layers(run, config))
    book.add(_template_layers(run, config, book.said["templates"][-1].source))
    book.add(_except(layers, RUN_FIELDS))
    train = book.checked(TrainConfig, "train.")
    dumped = dumped_options(book.checked(config, "options.")) if config else {}
    said = {key: book.said[key] for key in book.fields}
    return Resolved(run.model_copy(update={"train": train, "options": dumped}), said)


def _options_of(entry: MethodEntry) -> type[Any] | None:
    config = entry.load_config()
    if config is None:
        return None
    if isinstance(config, type) and issubclass(config, BaseModel):
        if reason := unfit_options(config):
            raise PluginError(f"{entry.told}: {reason}", hint="tell the plugin's author")
        return config
    raise PluginError(f"{entry.told}: its config= is not a MethodConfig", hint="tell the plugin's author")


class _Book:
    """Collects what every source says, in order of precedence."""

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self.fields = fields
        self.said: dict[str, tuple[Said, ...]] = {}

    def defaults(self, fields: Mapping[str, FieldInfo], source: str) -> None:
        for key, field in fields.items():
            if not field.is_required():
                self._say(key, field.get_default(call_default_factory=True), source)

    def add(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            for name, value in layer.values.items():
                key = full_key(name, self.fields, source=layer.source) if layer.bare else name
                if key not in self.fields:
                    raise unknown_key(key, self.fields, source=layer.source)
                self._say(key, read_value(key, value, self.fields[key], source=layer.source), layer.source)

    def require_all(self) -> None:
        missing = [key for key in self.fields if key in RUN_FIELDS and key not in self.said]
        if missing:
            raise UnsaidError(f"no {', '.join(missing)} given", hint=f"for example {EXAMPLE}")

    def checked(self, model: type[Model], prefix: str = "") -> Model:
        """The model over the keys that begin with `prefix` (and are in no table, for an empty one)."""
        keys = {name: prefix + name for name in model.model_fields if prefix + name in self.said}
        try:
            return model.model_validate({name: self.said[key][-1].value for name, key in keys.items()})
        except ValidationError as error:
            raise self._explained(error, prefix) from None

    def _say(self, key: str, value: Any, source: str) -> None:
        self.said[key] = (*self.said.get(key, ()), Said(source, value))

    def _explained(self, error: ValidationError, prefix: str) -> UsageError:
        """The first wrong key in one line: value, source, what is allowed."""
        problems = error.errors(include_url=False)
        location = problems[0]["loc"]
        reasons = dict.fromkeys(reason_of(p["msg"]) for p in problems if p["loc"][:1] == location[:1])
        if not location:
            return UsageError(f"the {prefix.rstrip('.') or 'run'} values do not fit together: {' or '.join(reasons)}")
        key = f"{prefix}{location[0]}"
        field = self.fields[key]
        if key not in self.said:
            return UsageError(f"{key} has no default ({field.description})", hint=f"give --set {key}=VALUE")
        said = self.said[key][-1]
        text = f"{key} = {show_value(key, said.value)} ({said.source}) is not allowed: it {' or '.join(reasons)}"
        return UsageError(text, hint=about(key, field))


def _reject_unknown(layers: Iterable[Layer]) -> None:
    """Fail on what no method could know, before a method is imported."""
    for layer in layers:
        for key in layer.values:
            if not layer.bare and key not in FIXED_FIELDS and not key.startswith("options."):
                raise unknown_key(key, FIXED_FIELDS, source=layer.source)


def _only(layers: Iterable[Layer], keys: Mapping[str, Any]) -> list[Layer]:
    return [Layer(la.source, {k: v for k, v in la.values.items() if k in keys}) for la in layers]


def _except(layers: Iterable[Layer], keys: Mapping[str, Any]) -> list[Layer]:
    return [Layer(la.source, {k: v for k, v in la.values.items() if k not in keys}, la.bare) for la in layers]


def _preset_layers(run: RunConfig, config: type[Any] | None) -> list[Layer]:
    if run.preset is None:
        return []
    presets: Mapping[str, Mapping[str, Any]] = getattr(config, "presets", {})
    if run.preset not in presets:
        hint = did_you_mean(run.preset, presets) or f"{run.method} has no presets"
        raise UsageError(f"unknown preset {run.preset!r} of method {run.method!r}", hint=hint)
    values = {f"options.{name}": value for name, value in presets[run.preset].items()}
    return [Layer(f"preset {run.preset}", values)]


def _template_layers(run: RunConfig, config: type[Any] | None, source: str) -> list[Layer]:
    """The run's templates, as the option in which its method takes them."""
    taken = template_values(getattr(config, "template_option", None), run.templates)
    values = {f"options.{name}": value for name, value in taken.items()}
    return [Layer(f"templates ({source})", values)] if values else []


def _host_methods() -> Methods:
    from vlmprompt.plugins import host

    methods: Methods = host().methods
    return methods
