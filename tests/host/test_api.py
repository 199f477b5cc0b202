"""`vlmprompt.api`: complete, lazy, and the same for type checkers as at run time."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from vlmprompt import api

# The names that design and plugins rely on.
PROMISED = [
    "hookimpl",
    "PromptMethod",
    "MethodConfig",
    "MethodOutput",
    "LocalView",
    "Losses",
    "ImageNeeds",
    "ImageFeatures",
    "TextFeatures",
    "TextPrompts",
    "VisualPrompts",
    "ClassTokens",
    "Backbone",
    "load_backbone",
    "build_method",
    "list_methods",
    "load_run",
    "evaluate",
    "Dataset",
    "Record",
    "ImageSource",
    "load_dataset",
    "ResultRow",
    "Field",
    "VlmPromptError",
    "UsageError",
    "InputError",
    "CapabilityError",
    "PluginError",
]


@pytest.mark.parametrize("name", [name for name in api.__all__ if name not in ("hookimpl", "VERSION")])
def test_every_name_can_be_imported(name: str) -> None:
    aliases = {"ClassPosition": "Literal", "Precision": "Literal", "TextTemplate": "Annotated"}  # of types
    assert getattr(api, name).__name__ == aliases.get(name, name)


def test_promised_names_are_there() -> None:
    assert set(PROMISED) <= set(api.__all__) == set(dir(api))


def test_every_name_comes_from_where_type_checkers_see_it() -> None:
    lines = [line.split() for line in Path(api.__file__).read_text().splitlines() if line.startswith("    from ")]
    seen = {names[3]: names[1] for names in lines}  # from MODULE import NAME as NAME
    assert set(seen) == set(api.__all__) - {"Any", "TYPE_CHECKING"}
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(api, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = api.nonsense


def test_hookimpl_comes_without_heavy_modules() -> None:
    code = "import sys; from vlmprompt.api import hookimpl, InputError; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "numpy", "pydantic", "pandas", "open_clip", "typer"} & set(loaded) == set()
