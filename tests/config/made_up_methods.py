"""A method as the registry knows it, without the registry: options, presets, shipped overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlmprompt.errors import UsageError, did_you_mean


class BlossomConfig(BaseModel):
    """Options of a made-up method."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "official": {"depth": 12, "fusion": "add"},
        "paper": {"depth": 9, "topk": [1, 2]},
        "broken": {"depht": 1},
    }

    depth: int = Field(9, ge=1, le=12, description="layers with prompts")
    topk: list[int] | int | None = Field(None, description="patches")
    ctx_init: str | None = "a photo of a"
    fusion: Literal["gate", "add", "concat"] = "gate"
    gated: bool = True
    momentum: float = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> BlossomConfig:
        if self.fusion == "concat" and self.depth > 11:
            raise ValueError("fusion concat reaches no further than depth 11")
        return self


class NeedyConfig(BaseModel):
    """Options one of which has no default."""

    width: int = Field(description="width in tokens")


@dataclass
class Entry:
    """A registered method."""

    name: str
    config: type[BaseModel] | None = BlossomConfig
    overrides: str | None = None

    @property
    def told(self) -> str:
        return f"method {self.name!r} of a test"

    def load_config(self) -> type[BaseModel] | None:
        return self.config


class Methods:
    """A registry of made-up methods."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = {e.name: e for e in entries}

    def get(self, name: str) -> Entry:
        if name not in self.entries:
            raise UsageError(f"unknown method {name!r}", hint=did_you_mean(name, self.entries))
        return self.entries[name]
