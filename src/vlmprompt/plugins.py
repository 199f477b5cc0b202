"""The plugin host: loads the entry points of group `vlmprompt` one at a time and contains what fails.

A plugin that cannot be imported, does not fit the hooks or registers something wrong contributes nothing:
what it had registered is taken back, the failure is kept for the CLI to report and for `vlmprompt doctor`
to explain, and every other plugin works on.

Environment: `VLMPROMPT_DISABLE_PLUGINS` is a comma-separated list of entry-point or distribution names not
to load ("*": all but what comes with the core, of which `doodles` can be left out by its name);
`VLMPROMPT_STRICT_PLUGINS=1` makes any failure fatal.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pluggy

from vlmprompt import hookspecs
from vlmprompt.entry_modules import UnmetError, check_hooks, fit, import_entry
from vlmprompt.errors import PluginError
from vlmprompt.registry import DOCTOR, REQUIRE, PluginFailure, Registry, Source, one_line

if TYPE_CHECKING:
    import typer

CORE = "vlmprompt"
BUILTIN = "builtin"  # the core's own entry point, without which nothing works
DISABLE = "VLMPROMPT_DISABLE_PLUGINS"
STRICT = "VLMPROMPT_STRICT_PLUGINS"
SLOW_S = 0.3  # an import that every command waits for
# What makes an entry module slow, named where it is found.
HEAVY = ("torch", "open_clip", "transformers", "pandas", "numpy", "pydantic")


@dataclass(frozen=True)
class PluginInfo:
    """An entry point that was found.

    Attributes:
        module: what the entry point names.
        status: "ok", "failed" or "disabled".
    """

    source: Source
    module: str
    status: str

    def public(self) -> dict[str, str]:
        """The plugin as JSON documents show it."""
        return vars(self.source) | {"module": self.module, "status": self.status}


class PluginHost:
    """Everything that plugins registered, by kind, and what became of each plugin.

    Args:
        clock: seconds, to tell which plugins are slow to import.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self.slow: list[str] = []
        self.failures: list[PluginFailure] = []
        self.disabled: list[Source] = []
        self.plugins: list[PluginInfo] = []
        self.warnings: list[str] = []
        self.commands: list[tuple[Source, typer.Typer]] = []
        self.methods = Registry("method", self.failures, self.disabled)
        self.backbones = Registry("backbone", self.failures, self.disabled)
        self.datasets = Registry("dataset", self.failures, self.disabled)
        self.suites = Registry("suite", self.failures, self.disabled)
        self.scores = Registry("score", self.failures, self.disabled)
        self.llm_providers = Registry("llm provider", self.failures, self.disabled)
        self.reporters = Registry("reporter", self.failures, self.disabled)
        self.trackers = Registry("tracker", self.failures, self.disabled)
        self.executors = Registry("executor", self.failures, self.disabled)

    @property
    def registries(self) -> dict[str, Registry]:
        """The registries under the names that hooks and commands use: `methods`, `datasets`, ..."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Registry)}

    def load(self, point: EntryPoint) -> None:
        """Load one plugin, or record why it failed."""
        source = _source(point)
        info = partial(PluginInfo, source, point.value)
        self.plugins.append(info("ok"))
        stage = "import"
        try:
            module = self._timed(source, point)
            stage = "validate"
            manager = fit(module)
            stage = "register"
            self._call_hooks(manager, source)
            # Only now, so that the names of a plugin with a misspelt hook are known when it fails.
            stage = "validate"
            check_hooks(manager, module)
        except KeyboardInterrupt:
            raise
        except UnmetError as error:
            self.fail(source, REQUIRE, error)
        except BaseException as error:  # a module that leaves at import must not end the program either
            self.fail(source, stage, error)

    def fail(self, source: Source, stage: str, error: BaseException) -> None:
        """Take back what a plugin registered, and record why it failed."""
        names = frozenset().union(*(registry.withdraw(source) for registry in self.registries.values()))
        self.commands[:] = [(owner, app) for owner, app in self.commands if owner != source]
        details = "".join(traceback.format_exception(error))
        hint = _next_step(source, stage, error)
        self.failures.append(PluginFailure(source, stage, one_line(error), hint, details, names))
        self.plugins[:] = [PluginInfo(source, p.module, "failed") if p.source == source else p for p in self.plugins]

    def provided_by(self, source: Source) -> dict[str, list[str]]:
        """What a plugin registered: kind in the plural -> names."""
        found = {
            kind: [entry.name for entry in registry.entries() if entry.source == source]
            for kind, registry in self.registries.items()
        }
        return {kind: names for kind, names in found.items() if names}

    def require_all(self) -> None:
        """Under VLMPROMPT_STRICT_PLUGINS: a failure of any plugin is an error.

        Raises:
            PluginError: naming the first that failed.
        """
        if self.failures and os.environ.get(STRICT, "") not in ("", "0"):
            raise PluginError(str(self.failures[0]), hint=f"{DOCTOR}; without {STRICT} the others work")

    def _timed(self, source: Source, point: EntryPoint) -> Any:
        """Import a plugin, and remember it where that takes long."""
        there = {name for name in HEAVY if name in sys.modules}
        start = self._clock()
        try:
            return import_entry(point)
        finally:
            seconds = self._clock() - start
            if seconds > SLOW_S:
                new = [name for name in HEAVY if name in sys.modules and name not in there]
                why = f", as it imports {', '.join(new)}" if new else ""
                self.slow.append(
                    f"{source} takes {seconds:.1f} s to import{why}, and every command waits for it: {_author(source)} "
                    "to import what is heavy in the modules behind target= alone"
                )

    def _call_hooks(self, manager: pluggy.PluginManager, source: Source) -> None:
        for kind, registry in self.registries.items():
            getattr(manager.hook, f"register_{kind}")(register=partial(registry.register, source=source))
        if manager.hook.register_commands.get_hookimpls():
            import typer

            app = typer.Typer()
            manager.hook.register_commands(app=app)
            self.commands.append((source, app))


_host: PluginHost | None = None


def host() -> PluginHost:
    """The process-wide host, loaded on first use.

    Raises:
        PluginError: under VLMPROMPT_STRICT_PLUGINS, if a plugin failed.
    """
    current = _host or load_host()
    current.require_all()
    return current


def load_host() -> PluginHost:
    """Load all plugins afresh as the process-wide host; failures are recorded, never raised."""
    global _host
    loaded = PluginHost()
    points = sorted(entry_points(group=hookspecs.PROJECT), key=_order)
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")} - {""}
    for point in points:
        source = _source(point)
        if _names(source) & disabled:
            loaded.plugins.append(PluginInfo(source, point.value, "disabled"))
            loaded.disabled.append(source)
        else:
            loaded.load(point)
    known = {"*"}.union(*(_names(plugin.source) for plugin in loaded.plugins))
    loaded.warnings += [
        f"{DISABLE} names {name!r}, but there is no such plugin to disable" for name in sorted(disabled - known)
    ]
    _host = loaded
    return loaded


def loaded_host() -> PluginHost | None:
    """The process-wide host if it is loaded."""
    return _host


def _names(source: Source) -> set[str]:
    """The names in `VLMPROMPT_DISABLE_PLUGINS` by which a plugin is left out; of what comes with the core, its own."""
    if source.distribution == CORE:
        return {source.plugin} - {BUILTIN}
    return {"*", source.plugin, source.distribution}


def _next_step(source: Source, stage: str, error: BaseException) -> str | None:
    """What is to be done about a failure, and by whom."""
    if stage == REQUIRE:  # the reason says it
        return None
    if isinstance(error, ModuleNotFoundError):
        package = source.distribution
        return f"python -m pip install --upgrade {package}, which brings what it needs; or {_author(source)}"
    own = error.hint if isinstance(error, PluginError) else None
    return f"{own}; {_author(source)}" if own else f"{_author(source)}, or leave it out: {DISABLE}={source.plugin}"


def _author(source: Source) -> str:
    return f"tell the author of {source.distribution}"


def _source(point: EntryPoint) -> Source:
    dist = point.dist
    return Source(point.name, dist.name if dist else "?", dist.version if dist else "?")


def _order(point: EntryPoint) -> tuple[bool, str, str]:
    source = _source(point)
    return source.distribution != CORE, source.distribution, source.plugin
