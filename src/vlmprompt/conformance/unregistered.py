"""A method class that no plugin has registered yet, known for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vlmprompt.errors import UsageError
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.plugins import host
from vlmprompt.registry import Source


def registered_name(cls: type[PromptMethod]) -> str:
    """The name under which a class is registered, or else the one that `registered` gives it."""
    found = [entry.name for entry in host().methods.entries() if entry.target == _target(cls)]
    return found[0] if found else _target(cls).replace(":", ".").lstrip("_")


@contextmanager
def registered(cls: type[PromptMethod], config: type[MethodConfig] | None = None) -> Iterator[None]:
    """Makes a class known by `registered_name`; one that a plugin has registered is known already.

    Args:
        config: the class of its options.

    Raises:
        UsageError: it stands within a function, where nobody can import it.
    """
    methods, target = host().methods, _target(cls)
    if any(entry.target == target for entry in methods.entries()):
        yield
        return
    package = target.partition(".")[0].partition(":")[0]
    source = Source(package, package, "unregistered")
    summary = (cls.__doc__ or "").strip().partition("\n")[0]
    methods.register(
        registered_name(cls),
        target=target,
        config=None if config is None else _target(config),
        summary=summary,
        source=source,
    )
    try:
        yield
    finally:
        methods.withdraw(source)


def _target(cls: type) -> str:
    if "<locals>" in cls.__qualname__:
        raise UsageError(
            f"class {cls.__qualname__} stands within a function, where it cannot be imported",
            hint="define it at the top level of its module",
        )
    return f"{cls.__module__}:{cls.__qualname__}"
