"""The shape of the project itself: what stays light, and what must be named everywhere when a plugin is added."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "open_clip", "openai", "pandas", "numpy", "pydantic", "rich.progress")
LIGHT = [
    *("api", "builtin", "compatibility", "doodles", "entry_modules", "errors", "hookspecs", "plugins", "progress"),
    "registry",
]
# A record is told apart by its contents; hooks and what is made of a method speak of methods; runs predict.
FOR_TYPES_ALONE = [
    ("data.contents", "data.records"),
    ("methods.groups", "methods.contract"),
    ("methods.streaming", "methods.contract"),
    ("methods.contract", "methods.frozen"),
    ("training.predicting", "training.runs"),
    ("training.own_images", "training.runs"),
]
CLI = sorted(path.stem for path in (ROOT / "src/vlmprompt/cli").glob("*.py") if path.stem != "__init__")
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

REPORT_LOADED = f"""
import sys
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print("loaded:", *heavy)
"""


def loaded_by(code: str) -> list[str]:
    """The heavy modules that a fresh interpreter holds after running some code."""
    command = [sys.executable, "-c", code + REPORT_LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()[-1].split()[1:]


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_probe_sees_a_heavy_module() -> None:
    assert loaded_by("import rich.progress, numpy") == ["numpy", "rich.progress"]


def test_hookimpl_comes_without_torch() -> None:
    assert loaded_by("from vlmprompt.api import hookimpl") == []


def test_light_modules_load_nothing_heavy() -> None:
    modules = [f"vlmprompt.{name}" for name in LIGHT] + [f"vlmprompt.cli.{name}" for name in CLI]
    assert loaded_by(f"import {', '.join(modules)}") == []


def test_help_loads_nothing_heavy_with_all_plugins_installed() -> None:
    code = "from vlmprompt.cli.main import main; assert main(['--help']) == 0"
    assert loaded_by(code) == []


def test_entry_modules_of_plugins_load_nothing_heavy() -> None:
    targets = [
        target for folder in PLUGINS for target in project(folder)["project"]["entry-points"]["vlmprompt"].values()
    ]
    assert targets
    assert loaded_by(f"import {', '.join(target.split(':')[0] for target in targets)}") == []


def test_import_contracts_hold() -> None:
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_named_wherever_it_must_be(folder: Path) -> None:
    core, plugin = project(ROOT), project(folder)
    distribution = plugin["project"]["name"]
    package = distribution.replace("-", "_")
    assert (folder / "src" / package / "py.typed").exists()
    extras = core["project"]["optional-dependencies"]  # what few can use is an extra of its own
    assert any(distribution in extras[name] for name in ("all", folder.name) if name in extras)
    assert distribution in core["tool"]["uv"]["sources"]
    linter = core["tool"]["importlinter"]
    assert package in linter["root_packages"]
    sources = {contract["name"]: contract.get("source_modules", []) for contract in linter["contracts"]}
    assert package in sources["open_clip is known to one folder"]
    assert package in sources["pandas is known to one file"]
    assert package in sources["Plugins import the public surface alone"]
    unknown = next(c for c in linter["contracts"] if c["name"] == "The core knows no plugin")
    assert package in unknown["forbidden_modules"]


def test_no_module_imports_itself_through_others_but_where_types_alone_do() -> None:
    """Imports inside functions and for type checkers count; no circle beyond those that these arrows close."""
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("vlmprompt", exclude_type_checking_imports=False, cache_dir=None)
    graph.remove_module("vlmprompt.api")  # which lists everything, for type checkers alone
    arrows = {(f"vlmprompt.{one}", f"vlmprompt.{other}") for one, other in FOR_TYPES_ALONE}
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert [(one, other) for one, other in arrows if other not in imported[one]] == []
    for one, other in arrows:
        imported[one].remove(other)
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle


def test_the_built_in_world_is_kept_from_every_module_but_the_api() -> None:
    package = ROOT / "src/vlmprompt"
    modules = {p.stem for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    contracts = project(ROOT)["tool"]["importlinter"]["contracts"]
    (forbidden,) = [c["forbidden_modules"] for c in contracts if c.get("source_modules") == ["vlmprompt.doodles"]]
    assert set(forbidden) == {f"vlmprompt.{name}" for name in modules - {"api", "doodles"}}


def test_the_version_is_said_the_same_everywhere() -> None:
    import vlmprompt

    assert {project(folder)["project"]["version"] for folder in (ROOT, *PLUGINS)} == {vlmprompt.__version__}


def test_python_versions_are_the_same_everywhere() -> None:
    assert len({project(folder)["project"]["requires-python"] for folder in (ROOT, *PLUGINS)}) == 1
