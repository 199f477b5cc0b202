"""What open_clip calls its architectures and their weights, read from its files: importing it takes seconds.

A misspelt `--backbone` is refused by these names before anything heavy is loaded.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from vlmprompt.backbones.weights.names import is_repository, place_here
from vlmprompt.errors import InputError, UsageError, VlmPromptError, did_you_mean
from vlmprompt.installed import package_file, package_folder
from vlmprompt.plugins import host

TWIN = "-quickgelu"
# What stands in front of specs that no list of names can check.
HUB, FOLDER = "hf-hub:", "local-dir:"
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".npz", ".onnx", ".tar")
_PARTS = {"embed_dim", "vision_cfg", "text_cfg"}  # without one of them a file describes no model
_TABLE = "_PRETRAINED"


def require_backbone(spec: str, *, random_weights: int | None = None) -> None:
    """Refuse a spec whose architecture or tag is misspelt; whether its weights can be had is not looked at.

    Raises:
        UsageError: unknown architecture or tag, or no weights named.
        InputError: there is no such file of weights.
    """
    if spec in host().backbones.names() or spec.startswith((HUB, FOLDER)):
        return
    architecture = spec.partition("/")[0]
    require_architecture(architecture, spec)
    if random_weights is None:
        require_weights(spec, tags(architecture))


def require_architecture(name: str, spec: str) -> None:
    """Refuse an architecture that open_clip does not know.

    Args:
        spec: the whole of what was asked for, which may be the name of something else.

    Raises:
        UsageError: says what was probably meant.
    """
    known = architectures()
    if name in known:
        return
    path = Path(spec).expanduser()
    if spec.startswith(("/", "./", "../", "~")) or path.suffix in SUFFIXES or path.exists():
        raise UsageError(f"backbone {spec!r} is a path without an architecture", hint=_form_of_path(path))
    here = place_here(spec, known, _repositories())
    if here is not None:
        where = "a name of the Hugging Face hub" if is_repository(spec) and "@" not in spec else "a name"
        raise UsageError(f"{spec!r} is {where}, not a backbone of open_clip", hint=f"use --backbone {here}")
    near = did_you_mean(name, [*host().backbones.names(), *known])
    hint = f"{near} ('vlmprompt backbones list --architectures' lists all)"
    if is_repository(spec):
        hint += f"; for a repository of the Hugging Face hub: --backbone {HUB}{spec}"
    raise UsageError(f"unknown architecture {name!r}", hint=hint)


def require_weights(spec: str, known: tuple[str, ...] | None) -> None:
    """Refuse a spec without weights, or with some that are neither a tag nor a file.

    Args:
        known: the architecture's tags; None where they are not known.

    Raises:
        UsageError: the nearest tags are suggested.
        InputError: there is no such file.
    """
    architecture, _, weights = spec.partition("/")
    if not weights:
        first = f"{architecture}/{known[0]}" if known else f"{architecture}/FILE"
        raise UsageError(f"backbone {spec!r} names no weights", hint=f"{first}, or --random-weights for random ones")
    # The tags of the twin without QuickGELU are refused later, with the name of the right one.
    if known is None or weights in known or weights in (tags(architecture.removesuffix(TWIN)) or ()):
        return
    path = Path(weights).expanduser()
    if path.exists():
        return
    if "/" in weights or path.suffix in SUFFIXES:
        raise InputError(f"there is no file {path} (from {Path.cwd()})", hint="check the path in --backbone")
    raise UsageError(
        f"{weights!r} is neither a file nor a pretrained tag of {architecture}",
        hint=did_you_mean(weights, known) or f"open_clip has no weights for it; give a file: {architecture}/FILE",
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
def _repositories() -> Mapping[str, str]:
    """Repository of the hub -> backbone spec, as open_clip lists its pretrained weights."""
    found: dict[str, str] = {}
    for name, weights in (_table() or {}).items():
        for tag, about in weights.items():
            place = str(_said(about, "hf_hub") or "").rpartition("/")[0].lower()
            if place:
                found.setdefault(place, f"{name}{TWIN if _is_quick(about) else ''}/{tag}")
    return found


def _form_of_path(path: Path) -> str:
    """What to write for a path: with the architecture, where its tensors tell it."""
    if path.is_dir():
        return f"use --backbone {FOLDER}{path}, or ARCHITECTURE/FILE for a file in it"
    general = f"write the architecture before it, such as --backbone ViT-B-16/{path}"
    if not path.exists():
        return f"there is no such file; {general}"
    from vlmprompt.backbones.openclip.fit import architectures_of
    from vlmprompt.backbones.weights.file import read_weights

    try:
        like = architectures_of(read_weights(path))
    except VlmPromptError as error:
        return error.told
    return f"by its shapes use --backbone {' or '.join(f'{name}/{path}' for name in like[:2])}" if like else general


@cache
def _table() -> Mapping[str, Mapping[str, ast.expr]] | None:
    """open_clip's table of weights as its source has it, nothing executed; None if it is written in another way."""
    try:
        assigned = _assigned(ast.parse(package_file("open_clip", "pretrained.py")))
        return {
            name: _items(assigned[value.id] if isinstance(value, ast.Name) else value)
            for name, value in _items(assigned[_TABLE]).items()
        }
    except (InputError, SyntaxError, KeyError):
        return None


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
    return bool(_said(about, "quick_gelu"))


def _said(about: ast.expr, key: str) -> object:
    """A plain value among the keywords of the call that describes some weights."""
    words = about.keywords if isinstance(about, ast.Call) else []
    return next((w.value.value for w in words if w.arg == key and isinstance(w.value, ast.Constant)), None)
