"""Commands whose modules are imported when they are asked for: the first help page needs their names alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True)
class Late:
    """A command of the core.

    Attributes:
        name: as typed.
        module: of `vlmprompt.cli`, whose `register(app)` adds it (and perhaps others).
        about: its line on the first help page: the first paragraph of its own help.
        panel: its place there, or None for the first.
    """

    name: str
    module: str
    about: str
    panel: str | None = None


class _Stub(TyperCommand):
    """What stands for a command on the first help page."""

    def __init__(self, late: Late) -> None:
        super().__init__(late.name, help=late.about, rich_help_panel=late.panel)
        self.late = late

    def load(self) -> Any:
        """The command itself."""
        app = typer.Typer()
        import_module(f"vlmprompt.cli.{self.late.module}").register(app)
        return get_group(app).commands[self.late.name]


class LateGroup(TyperGroup):
    """The application: names first, the commands behind them on demand."""

    only_names = False

    def add_late(self, commands: Iterable[Late]) -> None:
        """Put commands before those that are there."""
        self.commands = {**{late.name: _Stub(late) for late in commands}, **self.commands}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, its module imported unless a help page is being written."""
        command = self.commands.get(cmd_name)
        if isinstance(command, _Stub) and not self.only_names:
            command = self.commands[cmd_name] = command.load()
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page; the modules of its commands are not needed for it."""
        self.only_names = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.only_names = False
