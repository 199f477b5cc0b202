"""What open_clip lists: its architectures and their weights, read from its files, as importing it takes seconds."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from functools import cache

from vlmprompt.errors import InputError
from vlmprompt.installed import assignments, package_folder

TWIN = "-quickgelu"
_PARTS = {"embed_dim", "vision_cfg", "text_cfg"}  # without one of them a file describes no model
_TABLE = "_PRETRAINED"


def architectures() -> list[str]:
    """Names of all open_clip architectures, sorted; with those that have been added, once it is imported."""
    loaded = sys.modules.get("open_clip")
    return list(_described()) if loaded is None else sorted(loaded.list_models())


def tags(architecture: str) -> tuple[str, ...] | None:
    """The pretrained tags of an architecture, empty if it has none; None if open_clip's table cannot be read."""
    table = _pretrained()
    return None if table is None else table.get(architecture, ())


@cache
def repositories() -> Mapping[str, str]:
    """Repository of the hub -> backbone spec, as open_clip lists its pretrained weights."""
    found: dict[str, str] = {}
    for name, weights in (_table() or {}).items():
        for tag, about in weights.items():
            place = str(_said(about, "hf_hub") or "").rpartition("/")[0].lower()
            if place:
                found.setdefault(place, f"{name}{TWIN if _is_quick(about) else ''}/{tag}")
    return found


@cache
def _described() -> tuple[str, ...]:
    files = (package_folder("open_clip") / "model_configs").glob("*.json")
    return tuple(sorted(file.stem for file in files if json.loads(file.read_bytes()).keys() >= _PARTS))


@cache
def _pretrained() -> Mapping[str, tuple[str, ...]] | None:
    """Architecture -> tags; weights that want QuickGELU serve the architecture's twin as well. None: see `_table`."""
    table = _table()
    if table is None:
        return None
    found = {name: tuple(weights) for name, weights in table.items()}
    quick = {name + TWIN: tuple(tag for tag, about in table[name].items() if _is_quick(about)) for name in table}
    return found | {name: those for name, those in quick.items() if those}


@cache
def _table() -> Mapping[str, Mapping[str, ast.expr]] | None:
    """open_clip's table of weights as its source has it, nothing executed; None if it is written in another way."""
    try:
        assigned = assignments("open_clip", "pretrained.py")
        return {
            name: _items(assigned[value.id] if isinstance(value, ast.Name) else value)
            for name, value in _items(assigned[_TABLE]).items()
        }
    except (InputError, SyntaxError, KeyError):
        return None


def _items(value: ast.expr) -> dict[str, ast.expr]:
    """Of a `{...}` or a `dict(...)`.

    Raises:
        KeyError: it is neither, or a key is no plain text.
    """
    if isinstance(value, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
        values = value.values
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
        keys, values = [word.arg for word in value.keywords], [word.value for word in value.keywords]
    else:
        raise KeyError(f"line {value.lineno} holds no dictionary")
    if not all(isinstance(key, str) for key in keys):
        raise KeyError(f"line {value.lineno} holds keys that are no texts")
    return {str(key): item for key, item in zip(keys, values, strict=True)}


def _is_quick(about: ast.expr) -> bool:
    return bool(_said(about, "quick_gelu"))


def _said(about: ast.expr, key: str) -> object:
    """A plain value among the keywords of the call that describes some weights."""
    words = about.keywords if isinstance(about, ast.Call) else []
    return next((w.value.value for w in words if w.arg == key and isinstance(w.value, ast.Constant)), None)
