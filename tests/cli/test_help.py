"""Help pages: fast, light, readable."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.main import get_group

from vlmprompt import __version__, plugins
from vlmprompt.cli.main import main

HEAVY = {
    "torch",
    "numpy",
    "pydantic",
    "pandas",
    "openai",
    "rich.progress",
    "open_clip",
    "sklearn",
    "accelerate",
    "click",
}
LIST_MODULES = """
import sys
from vlmprompt.cli.main import main
code = main(sys.argv[1:])
print(code, *sys.modules, file=sys.stderr)
"""


def pages() -> list[list[str]]:
    """The command lines of all help pages."""
    from vlmprompt.cli.app import build

    found: list[list[str]] = [[]]
    groups = [([], build(plugins.load_host()))]
    while groups:
        path, group = groups.pop()
        for name in group.commands:
            command = group.get_command(None, name)
            found.append([*path, name])
            if hasattr(command, "commands"):
                groups.append(([*path, name], command))
    return found


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["methods", "list"], ["--version"], ["--nonsense"]])
def test_nothing_heavy_is_loaded(args: list[str]) -> None:
    run = subprocess.run([sys.executable, "-c", LIST_MODULES, *args], capture_output=True, text=True, check=True)
    loaded = set(run.stderr.splitlines()[-1].split()[1:])
    assert {"vlmprompt.cli.main", "vlmprompt_bloom"} <= loaded  # so with plugins
    # Behind the first page typer converts values, for which some of its versions load pydantic (15 ms).
    assert HEAVY & loaded <= ({"pydantic"} if args[0] in ("train", "methods") else set())
    assert len(loaded) < 500  # 280 to 350 now; how long that takes is the benchmark `startup` to tell


@pytest.mark.parametrize("path", pages(), ids=" ".join)
def test_pages_fit_80_columns(
    path: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*path, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert max(map(len, captured.out.splitlines())) <= 80
    assert "Usage: vlmprompt" in captured.out


@pytest.mark.parametrize("path", pages(), ids=" ".join)
def test_no_line_of_a_description_is_too_long_for_its_page(path: list[str]) -> None:
    """Lines behind the first paragraph are kept as they stand; a longer one leaves its last word on a line alone."""
    from vlmprompt.cli.app import build

    command = build(plugins.load_host())
    for name in path:
        command = command.get_command(None, name)
    _, _, more = (command.help or "").partition("\n\n")
    assert [line for line in more.splitlines() if len(line) > 78] == []


def test_the_first_page_has_examples_in_lines_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main(["--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "vlmprompt evaluate --suite accuracy" in lines
    assert "vlmprompt methods show coop" in lines


def test_the_first_page_says_of_each_command_what_its_own_page_says() -> None:
    """Names on the first page stand for modules that are not imported yet."""
    from vlmprompt.cli.app import COMMANDS, build

    group = build(plugins.load_host())
    modules_commands: dict[str, list[str]] = {}
    for late in COMMANDS:
        command = group.get_command(None, late.name)
        first = " ".join(command.help.split("\n\n")[0].split())
        assert first.startswith(late.about), late.name
        modules_commands.setdefault(late.module, []).append(late.name)
    for module, names in modules_commands.items():
        app = typer.Typer()
        import_module(f"vlmprompt.cli.{module}").register(app)
        assert sorted(get_group(app).commands) == sorted(names), f"{module} registers commands that no page shows"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vlmprompt {__version__}\n"


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "Usage: vlmprompt" in captured.out
    assert captured.err == ""


def test_a_misspelt_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methds", "list"]) == 2
    assert "did you mean 'methods'" in capsys.readouterr().err.lower()


def test_completion_scripts_are_off_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "--install-completion" not in capsys.readouterr().out
