"""A stand-in for Ray, in this process: as much of it as the executor calls. Actors may be lost on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As ray.exceptions.RayError."""


class Events:
    """As Ray's generator of references, which are the things themselves here."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events

    def __next__(self) -> Any:
        return next(self._events)


class StandIn:
    """The module.

    Attributes:
        said: the options of every actor, and what was called otherwise.
        lose: asked before every event of an actor with its number, from 0; true: the actor is lost there.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *, cpus: int = 2, unreachable: str = "") -> None:
        self.cpus, self.unreachable = cpus, unreachable
        self.said: list[Any] = []
        self.options: list[dict[str, Any]] = []
        self.killed: list[Any] = []
        self.lose: Callable[[int, Any], bool] = lambda number, event: False

    def is_initialized(self) -> bool:
        return False

    def init(self, **arguments: Any) -> None:
        if self.unreachable:
            raise ConnectionError(self.unreachable)
        self.said.append(arguments)

    def shutdown(self) -> None:
        self.said.append("shutdown")

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus}}, {"Alive": False, "Resources": {"CPU": 64}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def remote(self, cls: type[Any]) -> Any:
        def make(**options: Any) -> Any:
            self.options.append(options)
            return SimpleNamespace(remote=lambda: self._actor(cls(), len(self.options) - 1))

        return SimpleNamespace(options=make)

    def wait(self, things: list[Any], **more: Any) -> tuple[list[Any], list[Any]]:
        return things[:1], things[1:]

    def get(self, thing: Any) -> Any:
        return thing

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)

    def _actor(self, actor: Any, number: int) -> Any:
        def carry_out(*task: Any) -> Events:
            # To its end, before anything else is done: the thread that an actor works in shares this process, and
            # torch's random state with it. A lost actor must not go on beside the one that takes its place.
            return Events(self._events(list(actor.carry_out(*task)), number))

        call = SimpleNamespace(options=lambda **options: SimpleNamespace(remote=carry_out))
        return SimpleNamespace(carry_out=call, stop=SimpleNamespace(remote=actor.stop))

    def _events(self, events: list[Any], number: int) -> Iterator[Any]:
        for event in events:
            if self.lose(number, event):
                raise RayError("the node is gone")
            yield event
