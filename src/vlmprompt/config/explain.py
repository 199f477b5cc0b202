"""A resolved configuration as rows: key, value, where it came from, and what it won against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vlmprompt.config.keys import show_value
from vlmprompt.config.resolve import Resolved, Said


@dataclass(frozen=True)
class Explained:
    """One key of a configuration.

    Attributes:
        key: dotted key.
        value: the value that counts, as JSON types.
        source: who gave it.
        overridden: what sources of lower precedence said, the strongest of them first.
    """

    key: str
    value: Any
    source: str
    overridden: tuple[Said, ...]

    @property
    def shown(self) -> str:
        """The value as `--set` would read it."""
        return show_value(self.key, self.value)

    @property
    def losers(self) -> str:
        """What was overridden, in one line."""
        return "; ".join(f"{said.source}: {show_value(self.key, said.value)}" for said in self.overridden)


def explain(resolved: Resolved) -> Iterator[Explained]:
    """Every key: run level first, then train, then the method's options."""
    run = resolved.run.model_dump(mode="json")
    for key, said in resolved.said.items():
        table, _, name = key.rpartition(".")
        value = run[table][name] if table else run[name]
        yield Explained(key, value, said[-1].source, tuple(reversed(said[:-1])))
