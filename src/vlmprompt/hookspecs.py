"""What a plugin may extend. Each hook is called once, while the plugin loads; all are optional.

An entry point of the group `vlmprompt` names a module; the functions in it that carry
`@vlmprompt.api.hookimpl` and one of the names below are called. Targets are strings, imported on first
use, so that a plugin's entry module needs to import nothing but `hookimpl`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    import typer

PROJECT = "vlmprompt"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """What the `register_*` hooks are given."""

    def __call__(
        self,
        name: str,
        *,
        target: str,
        config: str | None = None,
        summary: str = "",
        overrides: str | None = None,
    ) -> None:
        """Make something known by name.

        Args:
            name: what users write; letters, digits, `_`, `-` and `.`.
            target: `"package.module:Attribute"` of the class or function.
            config: the same for the pydantic model of its options.
            summary: one line for `list` commands.
            overrides: `"package:file.toml"` with shipped settings for some data sets, shots or settings.
        """


@hookspec
def register_methods(register: Register) -> None:
    """Prompt-learning methods: subclasses of `PromptMethod`."""


@hookspec
def register_backbones(register: Register) -> None:
    """Backbone loaders."""


@hookspec
def register_datasets(register: Register) -> None:
    """Dataset readers; the name is what stands before the colon of a data set spec."""


@hookspec
def register_suites(register: Register) -> None:
    """Evaluation suites."""


@hookspec
def register_scores(register: Register) -> None:
    """Scores that tell images of known classes from all others: subclasses of `Score`."""


@hookspec
def register_llm_providers(register: Register) -> None:
    """Providers of class descriptions."""


@hookspec
def register_reporters(register: Register) -> None:
    """Renderers of result rows."""


@hookspec
def register_trackers(register: Register) -> None:
    """Trackers of runs while they train: subclasses of `Tracker`."""


@hookspec
def register_executors(register: Register) -> None:
    """Who carries out the runs of a sweep elsewhere than in its process: subclasses of `Executor`."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Commands: `app` is a fresh application whose commands join `vlmprompt` once the hook has returned."""
