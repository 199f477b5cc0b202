"""`vlmprompt config show`: the configuration a run would have, and where each value comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from vlmprompt.cli.options import JsonFlag
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.run_flags import RunFlags, command_with


def register(app: typer.Typer) -> None:
    """Add `config show`."""
    config = typer.Typer(no_args_is_help=True, help="Look at configurations.")
    config.command("show")(show)
    app.add_typer(config, name="config")


@command_with(RunFlags)
def show(
    flags: RunFlags,
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Also show what each value won against.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show every setting of a run, its value and its source, before it is trained.

    Sources, the strongest last: defaults, the method's overrides, --preset,
    --config, VLMPROMPT_* variables, --set, flags.
    """
    from vlmprompt.config.explain import explain as explained

    resolved = flags.resolve()
    rows = list(explained(resolved))
    columns = ("key", "value", "source", *(["instead of"] if explain else []))
    cells = [(row.key, row.shown, row.source, *([row.losers] if explain else [])) for row in rows]
    data = {
        "config": resolved.run,
        "keys": [
            {"key": row.key, "value": row.value, "source": row.source}
            | ({"overridden": [{"source": s.source, "value": s.value} for s in row.overridden]} if explain else {})
            for row in rows
        ],
    }
    emit("config show", data, as_json=as_json, table=Table(columns, cells))
