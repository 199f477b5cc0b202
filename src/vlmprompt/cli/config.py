"""`vlmprompt config show|describe`: the configuration a run would have, and what each of its settings means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.options import JsonFlag
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.run_flags import RunFlags
from vlmprompt.errors import UsageError
from vlmprompt.plugins import host

if TYPE_CHECKING:
    from vlmprompt.config.resolve import Resolved


def register(app: typer.Typer) -> None:
    """Add the group `config`."""
    config = typer.Typer(no_args_is_help=True, help="Show and explain configurations.")
    config.command("show")(show)
    config.command("describe")(describe)
    app.add_typer(config, name="config")


@grouped
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


@grouped
def describe(
    flags: RunFlags,
    *,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Settings, such as train.lr; default: all.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what every setting of a run means: its type, default, bounds, source.

    With --method also the options of that method, the value that each setting
    would have in a run with these flags, and where it comes from. Settings are
    given by flags, --set KEY=VALUE, a file (--config) or VLMPROMPT_* variables.
    """
    from vlmprompt.cli import options_help
    from vlmprompt.config.explain import explain as explained
    from vlmprompt.config.keys import FIXED_FIELDS, full_key, option_fields

    resolved = _resolved(flags)
    options = option_fields(None if resolved is None else host().methods.get(resolved.run.method).load_config())
    fields = {**FIXED_FIELDS, **options}
    try:
        wanted = [full_key(key, fields, source="config describe") for key in keys or ()] or list(fields)
    except UsageError as error:
        more = "; options of a method need --method NAME" if resolved is None else ""
        raise UsageError(error.message, hint=f"{error.hint}{more}") from None
    rows = options_help.rows({key: fields[key] for key in wanted})
    if resolved is not None:
        found = {row.key: row for row in explained(resolved)}
        rows = [row | {"value": found[row["name"]].value, "source": found[row["name"]].source} for row in rows]
    text = options_help.page(rows)
    if resolved is None:
        text += "\n\nwith --method NAME: its options too, and what a run would use; vlmprompt methods list"
    emit("config describe", {"settings": rows}, as_json=as_json, table=text)


def _resolved(flags: RunFlags) -> Resolved | None:
    """What the flags amount to; None where nothing is said, so that there is no method either.

    Raises:
        UsageError: something is said, and not allowed or not enough.
    """
    try:
        return flags.resolve()
    except UsageError:
        if flags != RunFlags():
            raise
        return None
