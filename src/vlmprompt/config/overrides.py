"""Settings that a method ships for certain data sets, shots, settings and protocols, as data.

A TOML resource of the method's package holds `[[override]]` tables; later tables win:

    [[override]]
    when = { setting = "base-to-new", shots = [8, 16] }
    train = { epochs = 50 }
    options = { depth = 9 }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlmprompt.config.layers import Layer
from vlmprompt.config.models import RunConfig
from vlmprompt.config.toml import parse_toml
from vlmprompt.errors import PluginError, did_you_mean
from vlmprompt.shown import problem

PROTOCOLS = "vlmprompt.config:protocols.toml"
Fact = Literal["dataset", "shots", "setting", "protocol"]


class Override(BaseModel):
    """Values that hold when every named fact is (one of) what is listed; without `when` they always do.

    Of texts a pattern such as "doodles-*" stands for all that it matches.
    """

    model_config = ConfigDict(extra="forbid")

    when: dict[Fact, str | int | list[str | int]] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def holds(self, facts: Mapping[str, set[str | int]]) -> bool:
        """Whether every condition is met."""
        return all(
            any(_fits(known, one) for known in facts[fact] for one in _listed(wanted))
            for fact, wanted in self.when.items()
        )

    @property
    def conditions(self) -> str:
        """When it holds, in a line; empty: always."""
        return ", ".join(f"{fact}={'|'.join(map(str, _listed(wanted)))}" for fact, wanted in self.when.items())

    @property
    def values(self) -> dict[str, Any]:
        """What it sets, by dotted key."""
        values = {f"train.{k}": v for k, v in self.train.items()}
        return values | {f"options.{k}": v for k, v in self.options.items()}

    def layer(self, resource: str) -> Layer:
        """The table as a layer that names its file and its condition."""
        where = f" [{self.conditions}]" if self.conditions else ""
        return Layer(f"override {resource}{where}", self.values)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    override: list[Override] = Field(default_factory=list)


def override_layers(
    resource: str | None, run: RunConfig, *, known: Iterable[str] | None, owner: str = ""
) -> list[Layer]:
    """The layers of a method's shipped overrides that apply to a run, in file order.

    Args:
        resource: "package:file.toml", or None for a method without overrides.
        run: the run-level keys, validated.
        known: every dotted key that exists, to catch a misspelt one; None: any may stand there.
        owner: the method with its package and version, for errors.

    Raises:
        PluginError: the resource is missing, malformed, or names unknown keys.
    """
    if resource is None:
        return []
    facts: dict[str, set[str | int]] = {
        "dataset": set(dataset_names(run.data)),
        "shots": {"all" if run.shots is None else run.shots},
        "setting": {run.setting},
        "protocol": {run.protocol},
    }
    overrides = _read(resource, owner)
    if known is not None:
        require_known(overrides, known, resource, owner)
    return [override.layer(resource) for override in overrides if override.holds(facts)]


def shipped(resource: str | None, owner: str = "") -> list[Override]:
    """A method's overrides, whatever they depend on; later ones win.

    Raises:
        PluginError: the resource is missing or malformed.
    """
    return [] if resource is None else _read(resource, owner)


def require_known(overrides: Iterable[Override], known: Iterable[str], resource: str, owner: str = "") -> None:
    """Refuse overrides that set what there is not.

    Raises:
        PluginError: names the key, the file and its owner.
    """
    for override in overrides:
        for key in sorted(override.values.keys() - set(known)):
            meant = did_you_mean(key, known)
            raise PluginError(
                f"{_of(owner)}{resource} sets an unknown key {key!r}", hint=f"{meant}; tell the plugin's author"
            )


def protocol_layers(run: RunConfig, *, known: Iterable[str]) -> list[Layer]:
    """What the run's protocol says of the keys that its method has."""
    keys = set(known)
    layers = override_layers(PROTOCOLS, run, known=None)
    return [Layer(layer.source, {k: v for k, v in layer.values.items() if k in keys}) for layer in layers]


def dataset_names(spec: str) -> tuple[str, ...]:
    """The short names a data set spec may go by: its scheme and the last part of what follows.

    "folder:my/photos" -> ("folder", "photos"), "csv:lists/birds.csv" -> ("csv", "birds.csv", "birds"),
    "doodles:sketch" -> ("doodles", "sketch").
    """
    scheme, _, argument = spec.partition(":")
    path = PurePath(argument)
    return tuple(dict.fromkeys(name for name in (scheme, path.name, path.stem) if name))


def _read(resource: str, owner: str = "") -> list[Override]:
    package, _, name = resource.partition(":")
    try:
        content = parse_toml(resources.files(package).joinpath(name).read_text(encoding="utf-8"))
        return _File.model_validate(content).override
    except (OSError, ImportError, ValueError) as error:
        reason = problem(error) if isinstance(error, ValidationError) else str(error).replace("\n", " ")
        raise PluginError(
            f"{_of(owner)}the overrides {resource} cannot be read: {reason}",
            hint="reinstall the plugin; if that does not help, tell its author",
        ) from error


def _of(owner: str) -> str:
    return f"{owner}: " if owner else ""


def _fits(known: str | int, wanted: str | int) -> bool:
    if isinstance(known, str) and isinstance(wanted, str):
        return fnmatchcase(known, wanted)
    return known == wanted


def _listed(wanted: str | int | list[str | int]) -> list[str | int]:
    return wanted if isinstance(wanted, list) else [wanted]
