"""The application: the core's commands, then those of plugins."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.main import get_group

from vlmprompt import __version__
from vlmprompt.cli import rich_help
from vlmprompt.cli.late import Late, LateGroup
from vlmprompt.errors import PluginError
from vlmprompt.plugins import PluginHost

THERE = "Installation"
# In the order of the help page.
COMMANDS = (
    Late("train", "train", "Train a method on a data set."),
    Late("import", "import_", "Turn a checkpoint of a method's published code into a run."),
    Late("evaluate", "evaluate", "Measure trained runs, zero-shot CLIP and a linear probe on the same images."),
    Late("predict", "predict", "Classify pictures with a trained run."),
    Late("calibrate", "calibrate", "Fit a temperature to a run, so that its probabilities can be trusted."),
    Late("sweep", "sweep", "Train and measure every combination of methods, data sets, shots and seeds."),
    Late("reproduce", "reproduce", "Train and measure everything that a table needs, and print it."),
    Late(
        "describe-classes",
        "describe_classes",
        "Describe classes in words: ask a language model.",
    ),
    Late("export", "export", "Export a trained run as ONNX, class embeddings or an open_clip model."),
    Late("explain", "explain", "Draw where a trained run looks in images."),
    Late("report", "report", "Show stored results as tables; measures nothing."),
    Late("data", "data", "Inspect data sets: contents, problems, few-shot samples."),
    Late("config", "config", "Show and explain configurations."),
    Late("methods", "listing", "Prompt-learning methods.", THERE),
    Late("datasets", "listing", "Readers of data sets: the part of --data before the colon.", THERE),
    Late("suites", "listing", "Evaluation suites.", THERE),
    Late("scores", "listing", "Scores that tell images of known classes from all others.", THERE),
    Late("backbones", "listing", "Backbone loaders.", THERE),
    Late("reporters", "listing", "Ways to show results.", THERE),
    Late("trackers", "listing", "Receivers of the log while a run trains.", THERE),
    Late("executors", "listing", "Ways to carry out the runs of a sweep.", THERE),
    Late("providers", "listing", "Providers of class descriptions.", THERE),
    Late("cache", "cache", "Answers that describe-classes has paid for, and image features.", THERE),
    Late("plugins", "listing", "Installed plugins and what they provide.", THERE),
    Late("doctor", "doctor", "Check the installation: versions, devices, folders, plugins, and why one failed.", THERE),
)

EPILOG = """\
Examples:
  vlmprompt train --method coop --data folder:photos --shots 16
  vlmprompt evaluate --suite accuracy
  vlmprompt methods show coop
  vlmprompt train --method coop --dry-run

Exit codes: 0 done, 2 usage, 3 input or environment, 4 a plugin failed,
5 finished but incomplete, 130 interrupted (143 by SIGTERM, 129 by SIGHUP),
141 the output was closed early, 1 a bug.
"""


def build(host: PluginHost) -> LateGroup:
    """The parser of all commands. A plugin whose commands do not fit fails as a whole, and is left out."""
    rich_help.load()
    app = typer.Typer(
        name="vlmprompt",
        cls=LateGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    app.callback()(_root)
    _add_plugins(app, host)
    group = get_group(app)
    assert isinstance(group, LateGroup)
    group.add_late(COMMANDS)
    return group


def plugin_commands(host: PluginHost) -> set[str]:
    """The names of commands that plugins have brought."""
    return {name for _, commands in host.commands for name in get_group(commands).commands}


def _add_plugins(app: typer.Typer, host: PluginHost) -> None:
    taken = dict.fromkeys((late.name for late in COMMANDS), "vlmprompt itself")
    for source, commands in list(host.commands):
        try:
            names = list(get_group(commands).commands)  # building them finds what cannot be parsed
            for name in taken.keys() & names:
                raise PluginError(f"command {name!r} is already provided by {taken[name]}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            host.fail(source, "register", error)
            continue
        taken |= dict.fromkeys(names, str(source))
        for info in commands.registered_commands:
            info.rich_help_panel = f"From {source}"
        for group in commands.registered_groups:
            group.rich_help_panel = f"From {source}"
        app.add_typer(commands)


def _version(value: bool) -> None:
    if value:
        print(f"vlmprompt {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Also show the traceback of expected errors.")] = False,
    no_plugins: Annotated[bool, typer.Option("--no-plugins", help="Load no plugins.")] = False,
) -> None:
    """Prompt learning for CLIP-like models: train a method, evaluate it, read the table.

    --debug and --no-plugins may be anywhere on the command line.
    """
    # `main` has taken --debug and --no-plugins off the line before it is parsed; here they are for the help.
