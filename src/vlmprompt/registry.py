"""Names and what stands behind them: registered as strings, imported on first use, of known origin."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmprompt.errors import PluginError, UsageError, did_you_mean, message_of

DOCTOR = "'vlmprompt doctor' explains"
REQUIRE = "require"  # the stage of a plugin that needs another version of the API
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FILE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class Source:
    """Where a registration came from: an entry point of an installed distribution."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class PluginFailure:
    """Why a plugin contributes nothing.

    Attributes:
        stage: "import", "require", "validate" or "register".
        reason: one line.
        hint: the next step for the plugin's author or user.
        details: the traceback, for `doctor`.
        names: (kind, name) pairs that it had registered, or tried to, before it failed.
    """

    source: Source
    stage: str
    reason: str
    hint: str | None = None
    details: str = ""
    names: frozenset[tuple[str, str]] = frozenset()

    def __str__(self) -> str:
        return f"{self.source} {became(self.stage, self.reason)}"

    def provides(self, kind: str, name: str) -> bool:
        """Whether the plugin would have provided this name, as far as one can know."""
        return (kind, name) in self.names or _canonical(name) == _canonical(self.source.plugin)

    def public(self) -> dict[str, str | None]:
        """The failure as JSON documents show it."""
        return vars(self.source) | {"stage": self.stage, "reason": self.reason, "hint": self.hint}


@dataclass(frozen=True)
class Entry:
    """One registered name."""

    kind: str
    name: str
    target: str
    config: str | None
    summary: str
    overrides: str | None
    source: Source

    @property
    def plugin(self) -> str:
        """Name of the plugin's entry point."""
        return self.source.plugin

    @property
    def distribution(self) -> str:
        """The installed package that brought it."""
        return self.source.distribution

    @property
    def version(self) -> str:
        """That package's version."""
        return self.source.version

    @property
    def told(self) -> str:
        """What it is and who brought it, for errors."""
        return f"{self.kind} {self.name!r} of {self.source}"

    @property
    def author(self) -> str:
        """Who is to act where it is wrong, for hints."""
        return f"tell the author of {self.distribution}"

    def load(self) -> Any:
        """Import the target.

        Raises:
            PluginError: it cannot be imported, or has no such attribute.
        """
        return self._import(self.target)

    def load_config(self) -> type[Any] | None:
        """Import the model of its options; None if it has none.

        Raises:
            PluginError: as for `load`.
        """
        if self.config is None:
            return None
        config: type[Any] = self._import(self.config)
        return config

    def public(self) -> dict[str, str | None]:
        """The entry as JSON documents show it."""
        own = {key: getattr(self, key) for key in ("name", "summary", "target", "config", "overrides")}
        return own | vars(self.source)

    def _import(self, target: str) -> Any:
        module, _, path = target.partition(":")
        try:
            value: Any = importlib.import_module(module)
            for attribute in path.split("."):
                value = getattr(value, attribute)
        except KeyboardInterrupt:
            raise
        except BaseException as e:  # whatever a module does when it is imported, such as leaving by sys.exit
            raise PluginError(
                f"{self.told} cannot be loaded from {target}: {one_line(e)}",
                hint=DOCTOR,
            ) from e
        return value


@dataclass
class Registry:
    """The names of one kind.

    Args:
        kind: what the names stand for, in the singular: "method".
        failures: the host's list of failed plugins, consulted for names that are missing.
        disabled: the plugins that were not loaded, likewise.
    """

    kind: str
    failures: Sequence[PluginFailure] = ()
    disabled: Sequence[Source] = ()
    _entries: dict[str, Entry] = field(default_factory=dict)

    def register(
        self,
        name: str,
        *,
        target: str,
        config: str | None = None,
        summary: str = "",
        overrides: str | None = None,
        source: Source,
    ) -> None:
        """Add a name; see `hookspecs.Register` for the arguments.

        Raises:
            PluginError: an argument has not the shape it must have, or the name is taken.
        """
        what = f"{self.kind} {name!r}"
        _check(_NAME, name, f"the name of {what}", "letters, digits, '_', '-' and '.'")
        _check(_TARGET, target, f"target= of {what}", "'package.module:Attribute'")
        if config is not None:
            _check(_TARGET, config, f"config= of {what}", "'package.module:Attribute'")
        if overrides is not None:
            _check(_FILE, overrides, f"overrides= of {what}", "'package:file.toml'")
        taken = self._entries.get(name)
        if taken is not None:
            raise PluginError(
                f"{what} is already provided by {taken.source}, and not added from {source}",
                hint=f"until one of the two is renamed, leave one out: VLMPROMPT_DISABLE_PLUGINS={source.plugin}",
            )
        self._entries[name] = Entry(self.kind, name, target, config, summary, overrides, source)

    def withdraw(self, source: Source) -> frozenset[tuple[str, str]]:
        """Take back everything of one plugin; gives its (kind, name) pairs."""
        names = [name for name, entry in self._entries.items() if entry.source == source]
        for name in names:
            del self._entries[name]
        return frozenset((self.kind, name) for name in names)

    def get(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            PluginError: a plugin that failed would have provided it.
            UsageError: nobody provides it; the nearest names are suggested.
        """
        if name in self._entries:
            return self._entries[name]
        self.require_no_failure(name)
        raise UsageError(
            f"unknown {self.kind} {name!r}", hint=self.or_absent(did_you_mean(name, self._entries)) or None
        )

    def require_no_failure(self, name: str) -> None:
        """Raises: PluginError: the name is not there because its plugin failed."""
        for failure in self.failures:
            if failure.provides(self.kind, name):
                raise PluginError(f"{self.kind} {name!r} is not available: {failure}", hint=DOCTOR)

    def or_absent(self, hint: str) -> str:
        """The next step from an unknown name, with the plugins that are not there, of which it may be."""
        failed = [f"{failure.source.plugin} failed ({DOCTOR})" for failure in self.failures]
        absent = [*failed, *(f"{source.plugin} is disabled" for source in self.disabled)]
        return f"{hint}; or is it of a plugin that is not there? {', '.join(absent)}" if absent else hint

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def entries(self) -> list[Entry]:
        """All entries, sorted by name."""
        return [self._entries[name] for name in self.names()]


def became(stage: str, reason: str) -> str:
    """What became of a plugin that failed, in words that follow its name."""
    return reason if stage == REQUIRE else f"failed to {stage}: {reason}"


def one_line(error: BaseException) -> str:
    """An exception in one line: its type unless it is ours, and the first line of its message."""
    text = next(iter(message_of(error).splitlines()), "")
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check(pattern: re.Pattern[str], value: object, what: str, shape: str) -> None:
    if not isinstance(value, str):
        raise PluginError(f"{what} must be a string like {shape}, not {value!r}")
    if not pattern.fullmatch(value):
        raise PluginError(f"{what} must be {shape}, not {value!r}")


def _canonical(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
