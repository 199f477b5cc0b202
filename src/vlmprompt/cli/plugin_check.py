"""`vlmprompt plugins check NAME`: whether what a plugin provides keeps the rules that the toolkit relies on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.cli.options import JsonFlag
from vlmprompt.cli.output import Table
from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import PluginError, UsageError, did_you_mean
from vlmprompt.plugins import PluginInfo, host
from vlmprompt.registry import DOCTOR

if TYPE_CHECKING:
    from vlmprompt.conformance.plugin import Tried

SHORT = {"ok": "ok", "failed": "FAILED", "not applicable": "-"}
EPILOG = "Exit codes: 0 all rules are kept, 2 there is no such plugin, 4 it does not load or breaks a rule."
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A plugin, or the package that it is of.", show_default=False)
]


def called(name: str) -> list[PluginInfo]:
    """The plugins of a name, which may be that of their package; hyphens are as good as underscores, as for pip.

    Raises:
        UsageError: there is none; the nearest names are suggested.
    """
    wanted = _plain(name)
    found = [info for info in host().plugins if wanted in map(_plain, (info.source.plugin, info.source.distribution))]
    if not found:
        names = {name for info in host().plugins for name in (info.source.plugin, info.source.distribution)}
        raise UsageError(f"unknown plugin {name!r}", hint=did_you_mean(name, names))
    return found


def _plain(name: str) -> str:
    """A name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check(name: NameArgument, as_json: JsonFlag = False) -> None:
    """Try whether the methods, suites and providers of a plugin keep the rules.

    Each method is built with its default options on tiny towers, trained for
    a few steps, saved, resumed and evaluated. A plugin's author has the same
    checks as tests: 'vlmprompt.testing'.
    """
    found = called(name)
    for info in found:
        _require_loaded(info)
    from vlmprompt.conformance.plugin import count, elsewhere, provided, try_one

    things = [thing for info in found for thing in provided(info.source)]
    with CliProgress().task("trying", count(things), unit="checks") as task:
        tried = [try_one(kind, thing, task.advance) for kind, thing in things]
    notes = [line for info in found for line in elsewhere(info.source)]
    notes += [f"{one.name} was not tried: {one.untried}" for one in tried if one.untried]
    if not things:
        notes.append(f"plugin {name} provides nothing that is tried here")
    failed = {one.name: one.failed for one in tried if one.failed}
    error = None
    if failed:
        counts = ", ".join(f"{thing} ({len(broken)})" for thing, broken in failed.items())
        error = PluginError(f"rules are broken by {counts}", hint=f"tell the author of {found[0].source.distribution}")
    data = {"plugin": name, "tried": [one.public() for one in tried], "notes": notes}
    output.emit("plugins check", data, as_json=as_json, table=_page(tried, notes), error=error)


def _require_loaded(info: PluginInfo) -> None:
    if info.status == "disabled":
        raise PluginError(f"{info.source} is disabled", hint="leave it out of VLMPROMPT_DISABLE_PLUGINS")
    for failure in host().failures:
        if failure.source == info.source:
            raise PluginError(str(failure), hint=failure.hint or DOCTOR)


def _page(tried: Sequence[Tried], notes: Sequence[str]) -> list[Table | str]:
    """A table for each kind, checks by names; then what is broken, and what to know."""
    parts: list[Table | str] = []
    for kind, group in groupby((one for one in tried if one.outcomes), key=lambda one: one.kind):
        some = list(group)
        rows = [
            (row[0].check, *(SHORT[outcome.status] for outcome in row))
            for row in zip(*(one.outcomes for one in some), strict=True)
        ]
        parts += [Table((f"check of {kind}", *(one.name for one in some)), rows), ""]
    parts += [line for one in tried for line in _broken(one)]
    return [*parts, *(f"note: {note}" for note in notes)]


def _broken(one: Tried) -> Iterator[str]:
    for outcome in one.failed:
        yield f"{one.name} breaks {outcome.check}: {outcome.reason}"
        yield f"  rule: {outcome.rule}"
        if outcome.step:
            yield f"  next step: {outcome.step}"
        yield from (f"  | {line}" for line in outcome.trace)
        yield ""
