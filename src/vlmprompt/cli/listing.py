"""`vlmprompt methods|datasets|suites|...|plugins list|show`: what there is, of every kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer

from vlmprompt.cli import options_help, output, plugin_check, plugins_new
from vlmprompt.cli.options import JsonFlag
from vlmprompt.cli.options_help import reflow, wrapped
from vlmprompt.cli.output import Table
from vlmprompt.errors import UsageError
from vlmprompt.plugins import PluginInfo, host
from vlmprompt.registry import Entry, became

KINDS = {
    "methods": "Prompt-learning methods.",
    "datasets": "Readers of data sets: the part of --data before the colon.",
    "suites": "Evaluation suites.",
    "scores": "Scores that tell images of known classes from all others.",
    "backbones": "Backbone loaders.",
    "reporters": "Ways to show results.",
    "trackers": "Receivers of the log while a run trains.",
    "executors": "Ways to carry out the runs of a sweep.",
    "providers": "Providers of class descriptions.",
}
_REGISTRIES = {"providers": "llm_providers"}  # where hooks have another word than users
NameArgument = Annotated[str, typer.Argument(help="A name from the list.", show_default=False)]
SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="A name from the list, or what --backbone takes.", show_default=False)
]
ArchitecturesFlag = Annotated[
    bool, typer.Option("--architectures", help="The architectures that open_clip knows, too, and what each serves.")
]

SizeOption = Annotated[
    str | None,
    typer.Option("--image-size", metavar="INT|HxW", help="Show them as they are with images of this size, in pixels."),
]


def register(app: typer.Typer) -> None:
    """Add one group of commands for each kind, and `plugins`."""
    for kind, about in KINDS.items():
        if kind == "backbones":
            _add_group(app, kind, about, _list_backbones, _show_backbone)
        else:
            _add_group(app, kind, about, _lister(kind), _shower(kind))
    plugins = _add_group(app, "plugins", "Installed plugins and what they provide.", _list_plugins, _show_plugin)
    plugins.command("check", epilog=plugin_check.EPILOG)(plugin_check.check)
    plugins.command("new", epilog=plugins_new.EPILOG)(plugins_new.new)


def _add_group(
    app: typer.Typer, name: str, about: str, list_all: Callable[..., None], show: Callable[..., None]
) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=about)
    group.command("list", help=f"List the {name}.")(list_all)
    group.command("show", help="Show one in full.")(show)
    app.add_typer(group, name=name)
    return group


def _lister(kind: str) -> Callable[..., None]:
    def list_names(as_json: JsonFlag = False) -> None:
        entries = host().registries[_REGISTRIES.get(kind, kind)].entries()
        data = {kind: [entry.public() for entry in entries]}
        output.emit(f"{kind} list", data, as_json=as_json, table=_table(kind, entries))

    return list_names


def _list_backbones(as_json: JsonFlag = False, architectures: ArchitecturesFlag = False) -> None:
    entries = host().backbones.entries()
    data: dict[str, Any] = {"backbones": [entry.public() for entry in entries]}
    parts: list[Table | str] = [_table("backbones", entries)]
    if architectures:
        from vlmprompt.cli.backbones import architecture_table
        from vlmprompt.cli.backbones import architectures as known

        data["architectures"] = known()
        parts += ["", architecture_table(data["architectures"])]
    output.emit("backbones list", data, as_json=as_json, table=parts)


def _show_backbone(spec: SpecArgument, as_json: JsonFlag = False, image_size: SizeOption = None) -> None:
    from vlmprompt.backbones.names import FOLDER, HUB, require_architecture
    from vlmprompt.cli.backbones import image_sides, tower_page, towers

    names = host().backbones.names()
    if spec not in names and not spec.startswith((HUB, FOLDER)):
        require_architecture(spec.partition("/")[0], spec)  # before torch is loaded
    sides = None if image_size is None else image_sides(image_size)
    if sides is not None and spec == "open_clip":
        raise UsageError("open_clip is a loader and has no images", hint="name an architecture: 'backbones list'")
    data, parts = _described("backbones", spec) if spec in names else ({}, [])
    if spec != "open_clip":
        data |= towers(spec, sides)
        parts += ["", *tower_page(data)] if parts else tower_page(data)
    output.emit("backbones show", data, as_json=as_json, table=parts)


def _table(kind: str, entries: list[Entry]) -> Table:
    rows = [(e.name, f"{e.distribution} {e.version}", e.summary) for e in entries]
    return Table((kind.removesuffix("s"), "package", "summary"), rows)


def _shower(kind: str) -> Callable[..., None]:
    def show(name: NameArgument, as_json: JsonFlag = False) -> None:
        data, parts = _described(kind, name)
        output.emit(f"{kind} show", data, as_json=as_json, table=parts)

    return show


def _described(kind: str, name: str) -> tuple[dict[str, Any], list[Table | str]]:
    """A registered thing in full, as data and as a page."""
    entry = host().registries[_REGISTRIES.get(kind, kind)].get(name)
    target, config = entry.load(), entry.load_config()
    data: dict[str, Any] = entry.public() | {"doc": inspect.getdoc(target) or ""}
    if hasattr(target, "capabilities"):
        data["capabilities"] = sorted(target.capabilities)
    if config is not None:
        data["options"] = options_help.describe(config)
        data["presets"] = {key: dict(values) for key, values in getattr(config, "presets", {}).items()}
    if kind == "methods":
        data["shipped"] = _shipped(entry)
    flags = {"providers": "--set NAME", "scores": f"--score-set {name}.NAME", "executors": "--executor-set NAME"}
    return data, _page(data, flags.get(kind, "--set options.NAME"))


def _page(data: dict[str, Any], option: str) -> list[Table | str]:
    parts: list[Table | str] = [reflow(f"{data['name']}: {data['summary']}"), "", reflow(data["doc"]), ""]
    parts.append(f"from {data['distribution']} {data['version']}, {data['target']}")
    if "capabilities" in data:
        parts.append(f"capabilities: {', '.join(data['capabilities']) or 'none'}")
    if "options" in data:
        parts += ["", f"options ({option}=VALUE):", options_help.page(data["options"])]
        for preset, values in data["presets"].items():
            settings = ", ".join(f"{key}={value}" for key, value in values.items()) or "the defaults"
            parts.append(reflow(f"--preset {preset}: {settings}"))
    if data.get("shipped"):
        parts += ["", "settings it ships, later lines win (see 'vlmprompt config describe'):"]
        parts += list(_shipped_lines(data["shipped"]))
    return parts


def _shipped(entry: Entry) -> list[dict[str, Any]]:
    """The settings that a method brings along for some data sets, shots, settings or protocols."""
    from vlmprompt.config.overrides import shipped

    return [{"when": one.conditions, "values": one.values} for one in shipped(entry.overrides, entry.told)]


def _shipped_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    from vlmprompt.config.keys import show_value

    for row in rows:
        values = ", ".join(f"{key}={show_value(key, value)}" for key, value in row["values"].items())
        yield wrapped(f"{row['when'] or 'always'}: {values}", indent=2)


def _list_plugins(as_json: JsonFlag = False) -> None:
    rows = [_plugin(info) for info in host().plugins]
    output.emit("plugins list", {"plugins": rows}, as_json=as_json, table=plugin_table(rows))


def plugin_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The plugins of `plugins list` and `doctor`."""
    return Table(
        ("plugin", "package", "status", "provides"),
        [(r["plugin"], f"{r['distribution']} {r['version']}", r["status"], _provides(r)) for r in rows],
    )


def _show_plugin(name: NameArgument, as_json: JsonFlag = False) -> None:
    rows = [_plugin(info) for info in plugin_check.called(name)]
    text: list[Table | str] = []
    for row in rows:
        text.append(f"{row['plugin']}: {row['status']}, {row['distribution']} {row['version']}, {row['module']}")
        text += [f"{kind}: {', '.join(provided)}" for kind, provided in row["provides"].items()]
        text += [f"{became(f['stage'], f['reason'])} (vlmprompt doctor explains)" for f in row["failures"]]
    output.emit("plugins show", {"plugins": rows}, as_json=as_json, table=text)


def _plugin(info: PluginInfo) -> dict[str, Any]:
    failures = [failure.public() for failure in host().failures if failure.source == info.source]
    return info.public() | {"provides": host().provided_by(info.source), "failures": failures}


def _provides(row: Mapping[str, Any]) -> str:
    return "\n".join(f"{kind}: {', '.join(names)}" for kind, names in row["provides"].items())
