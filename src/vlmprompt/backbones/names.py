"""What open_clip calls its architectures and their weights, read from its files: importing it takes seconds.

A misspelt `--backbone` is refused by these names before anything heavy is loaded.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.plugins import host

TWIN = "-quickgelu"
# What stands before a colon in specs that no list of names can check.
ELSEWHERE = ("hf-hub:", "local-dir:")
_PARTS = {"embed_dim", "vision_cfg", "text_cfg"}  # without one of them a file describes no model
_TABLE = "_PRETRAINED"


def require_backbone(spec: str, *, random_weights: int | None = None) -> None:
    """Refuse a spec whose architecture or tag is misspelt; whether its weights can be had is not looked at.

    Raises:
        UsageError: unknown architecture or tag, or no weights named.
    """
    if spec in host().backbones.names() or spec.startswith(ELSEWHERE):
        return
    architecture = spec.partition("/")[0]
    require_architecture(architecture)
    if random_weights is None:
        require_weights(spec, tags(architecture))


def require_architecture(name: str) -> None:
    """Refuse an architecture that open_clip does not know.

    Raises:
        UsageError: with the nearest names.
    """
    known = architectures()
    if name not in known:
        near = did_you_mean(name, [*host().backbones.names(), *known])
        hint = f"{near} ('vlmprompt backbones list --architectures' lists all)"
        raise UsageError(f"unknown architecture {name!r}", hint=hint)


def require_weights(spec: str, known: tuple[str, ...] | None) -> None:
    """Refuse a spec without weights, or with some that are neither a tag nor a file.

    Args:
        known: the architecture's tags; None where they are not known.

    Raises:
        UsageError: the nearest tags are suggested.
    """
    architecture, _, weights = spec.partition("/")
    if not weights:
        first = known[0] if known else "<checkpoint file>"
        hint = f"{architecture}/{first}, or --random-weights for random ones"
        raise UsageError(f"backbone {spec!r} names no weights", hint=hint)
    # The tags of the twin without QuickGELU are refused later, with the name of the right one.
    if known is None or weights in known or weights in (tags(architecture.removesuffix(TWIN)) or ()):
        return
    if not Path(weights).exists():
        raise UsageError(
            f"{weights!r} is neither a file nor a pretrained tag of {architecture}", hint=did_you_mean(weights, known)
        )


def architectures() -> list[str]:
    """Names of all open_clip architectures, sorted; with those that have been added, once it is imported."""
    loaded = sys.modules.get("open_clip")
    return list(_described()) if loaded is None else sorted(loaded.list_models())


def tags(architecture: str) -> tuple[str, ...] | None:
    """The pretrained tags of an architecture, empty if it has none; None if open_clip's table cannot be read."""
    table = _pretrained()
    return None if table is None else table.get(architecture, ())


@cache
def _described() -> tuple[str, ...]:
    files = (_folder() / "model_configs").glob("*.json")
    return tuple(sorted(file.stem for file in files if json.loads(file.read_bytes()).keys() >= _PARTS))


@cache
def _pretrained() -> Mapping[str, tuple[str, ...]] | None:
    """open_clip's table of weights as its source has it, nothing executed; None if it is written in another way."""
    source = _folder() / "pretrained.py"
    try:
        return dict(_with_twins(_assigned(ast.parse(source.read_bytes()))))
    except (OSError, SyntaxError, KeyError):
        return None


def _with_twins(assigned: Mapping[str, ast.expr]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every architecture and its tags; weights that want QuickGELU serve the architecture's twin as well."""
    for name, value in _items(assigned[_TABLE]).items():
        weights = _items(assigned[value.id] if isinstance(value, ast.Name) else value)
        yield name, tuple(weights)
        if quick := tuple(tag for tag, about in weights.items() if _is_quick(about)):
            yield name + TWIN, quick


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """The first value of each variable of a module."""
    found: dict[str, ast.expr] = {}
    for step in tree.body:
        if isinstance(step, ast.Assign) and isinstance(step.targets[0], ast.Name):
            found.setdefault(step.targets[0].id, step.value)
    return found


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
    words = about.keywords if isinstance(about, ast.Call) else []
    return any(w.arg == "quick_gelu" and isinstance(w.value, ast.Constant) and bool(w.value.value) for w in words)


def _folder() -> Path:
    found = find_spec("open_clip")
    if found is None or found.origin is None:
        raise InputError("the package open_clip is not there", hint="python -m pip install open_clip_torch")
    return Path(found.origin).parent
