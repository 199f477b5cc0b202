"""Options that belong together reach a command as one argument."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from vlmprompt.cli.grouped import grouped


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Two options."""

    warm: Annotated[list[str] | None, typer.Option("--warm")] = None
    cold: Annotated[str, typer.Option("--cold", help="A cold one.")] = "blue"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """One option."""

    size: Annotated[int, typer.Option("--size")] = 3


@grouped
def paint(
    colours: Colours, *, walls: Annotated[list[str] | None, typer.Argument()] = None, sizes: Sizes, dry: bool = False
) -> None:
    """Paint walls."""
    typer.echo(f"{walls} {colours} {sizes} {dry}")


def test_the_parser_sees_each_field_in_its_place() -> None:
    parameters = inspect.signature(paint).parameters
    assert list(parameters) == ["warm", "cold", "walls", "size", "dry"]
    assert parameters["cold"].default == "blue" and parameters["cold"].annotation.__metadata__[0].help == "A cold one."


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ([], "None Colours(warm=None, cold='blue') Sizes(size=3) False"),
        (
            ["north", "--warm", "red", "--size", "7", "south", "--warm", "gold", "--dry"],
            "['north', 'south'] Colours(warm=['red', 'gold'], cold='blue') Sizes(size=7) True",
        ),
    ],
)
def test_the_command_is_given_the_groups(words: list[str], printed: str) -> None:
    app = typer.Typer()
    app.command()(paint)
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.output.strip()) == (0, printed)
