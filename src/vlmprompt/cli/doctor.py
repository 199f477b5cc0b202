"""`vlmprompt doctor`: what is installed, what works, and why something does not."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from vlmprompt.cli import output
from vlmprompt.cli.listing import plugin_table
from vlmprompt.cli.options import JsonFlag
from vlmprompt.cli.output import Table
from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import InputError, PluginError, VlmPromptError
from vlmprompt.plugins import DISABLE, PluginHost, load_host, loaded_host
from vlmprompt.registry import Entry, became, one_line

PACKAGES = ("torch", "open_clip_torch", "accelerate", "numpy", "pandas", "scikit-learn", "pydantic", "typer", "pluggy")
TAIL_LINES = 12
EPILOG = "Exit codes: 0 healthy, 3 a library or folder is unusable, 4 a plugin failed."


def register(app: typer.Typer) -> None:
    """Add `doctor`."""
    app.command("doctor", epilog=EPILOG)(doctor)


def doctor(as_json: JsonFlag = False) -> None:
    """Check the installation: versions, devices, folders, plugins, and why one failed.

    Imports everything that is registered and puts two images through every
    method, so that what would fail later shows now.
    """
    host = loaded_host() or load_host()
    broken = _broken_targets(host)
    failed, untried = _tried_methods(host, broken)
    data: dict[str, Any] = {
        "versions": _versions(),
        "devices": _devices(),
        "folders": _folders(),
        "plugins": [p.public() | {"provides": host.provided_by(p.source)} for p in host.plugins],
        "failures": [f.public() | {"traceback": f.details.splitlines()[-TAIL_LINES:]} for f in host.failures],
        "broken": [*broken, *failed],
        "warnings": [*host.warnings, *host.slow, *untried],
    }
    output.emit("doctor", data, as_json=as_json, table=_report(data), error=_verdict(data))


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("vlmprompt", *PACKAGES):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _devices() -> list[dict[str, str]]:
    """The devices that torch can use; a torch that cannot be imported is a row that says so."""
    try:
        import torch
    except Exception as error:  # a broken native library raises what it likes
        return [{"device": "none", "name": "", "problem": f"torch cannot be imported: {one_line(error)}"}]
    found = [{"device": "cpu", "name": f"{torch.get_num_threads()} threads", "problem": ""}]
    for i in range(torch.cuda.device_count()):
        found.append({"device": f"cuda:{i}", "name": torch.cuda.get_device_name(i), "problem": ""})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "problem": ""})
    return found


def _folders() -> list[dict[str, str]]:
    from platformdirs import user_cache_dir

    folders = {
        "runs": os.environ.get("VLMPROMPT_RUNS_DIR", "runs"),
        "cache": os.environ.get("VLMPROMPT_CACHE_DIR") or user_cache_dir("vlmprompt"),
    }
    return [
        {"folder": name, "path": str(Path(path).absolute()), "problem": _write_problem(Path(path).absolute())}
        for name, path in folders.items()
    ]


def _write_problem(path: Path) -> str:
    """Why nothing can be written there; a folder that does not exist yet is judged by where it would be."""
    place = next(p for p in (path, *path.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{place}: {error.strerror}"


def _broken_targets(host: PluginHost) -> list[dict[str, Any]]:
    """Registered names whose target cannot be imported."""
    entries = [entry for registry in host.registries.values() for entry in registry.entries()]
    broken = []
    with CliProgress().task("importing what plugins provide", len(entries), unit="entries") as task:
        for entry in entries:
            try:
                entry.load()
                entry.load_config()
            except PluginError as error:
                broken.append(_broken(entry, error.message))
            task.advance()
    return broken


def _tried_methods(host: PluginHost, broken: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Methods that can be imported but do not work, and what to know of those that could not be tried."""
    known = {row["name"] for row in broken if row["kind"] == "method"}
    entries = [entry for entry in host.methods.entries() if entry.name not in known]
    if not entries:
        return [], []
    try:
        from vlmprompt.methods.trial import try_methods

        with CliProgress().task("trying methods", len(entries), unit="methods") as task:
            failed, untried = try_methods([entry.name for entry in entries], task.advance)
    except Exception as error:  # there are no towers to try them on; what is broken of them is in the report
        return [], [f"no method was tried: {one_line(error)}"]
    rows = [
        _broken(entry, problem.message) | {"hint": problem.hint, "traceback": _traceback(problem.__cause__)}
        for entry in entries
        if (problem := failed.get(entry.name))
    ]
    return rows, [f"method {name!r} was not tried: {reason}" for name, reason in untried.items()]


def _broken(entry: Entry, reason: str) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": entry.kind, "name": entry.name, "plugin": entry.plugin, "reason": reason}
    return row | {"hint": None, "traceback": []}


def _traceback(error: BaseException | None) -> list[str]:
    """The last lines; none of an error that has no cause in somebody's code."""
    return [] if error is None else "".join(traceback.format_exception(error)).splitlines()[-TAIL_LINES:]


def _verdict(data: dict[str, Any]) -> VlmPromptError | None:
    failed = [f["plugin"] for f in data["failures"]] + [b["plugin"] for b in data["broken"]]
    if failed:
        names = ",".join(dict.fromkeys(failed))
        return PluginError(
            f"plugins with failures: {names}", hint=f"repair or uninstall them, or set {DISABLE}={names}"
        )
    problems = [row["problem"] for row in (*data["devices"], *data["folders"]) if row["problem"]]
    if problems:
        return InputError("; ".join(problems), hint="VLMPROMPT_RUNS_DIR and VLMPROMPT_CACHE_DIR name other folders")
    return None


def _report(data: dict[str, Any]) -> list[Table | str]:
    parts: list[Table | str] = [
        Table(("package", "version"), [(k, v or "not installed") for k, v in data["versions"].items()]),
        "",
        Table(("device", "name", ""), [(d["device"], d["name"], d["problem"]) for d in data["devices"]]),
        "",
        Table(
            ("folder", "writable", "path"), [(f["folder"], f["problem"] or "yes", f["path"]) for f in data["folders"]]
        ),
        "",
        plugin_table(data["plugins"]),
    ]
    for failure in data["failures"]:
        source = f"{failure['plugin']} ({failure['distribution']} {failure['version']})"
        parts += _explained(f"{source} {became(failure['stage'], failure['reason'])}", failure)
    for broken in data["broken"]:
        parts += _explained(f"broken: {broken['reason']}", broken)
    parts += [f"\nnote: {text}" for text in data["warnings"]]
    return parts


def _explained(what: str, row: dict[str, Any]) -> list[str]:
    """What is wrong, with the next step and the end of the traceback where there are any."""
    steps = [f"  next step: {row['hint']}"] if row["hint"] else []
    return [f"\n{what}", *steps, *(f"  | {line}" for line in row["traceback"])]
