"""`vlmprompt plugins new NAME`: a package that works, to be changed into another."""

from __future__ import annotations

import keyword
import os
import re
from enum import StrEnum
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from vlmprompt.cli import output
from vlmprompt.cli.options import JsonFlag
from vlmprompt.compatibility import VERSION
from vlmprompt.errors import InputError, UsageError
from vlmprompt.plugins import host
from vlmprompt.staging import staging

_TEMPLATES = resources.files("vlmprompt.cli").joinpath("plugin_templates")
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
PREFIX = "vlmprompt"
EPILOG = "Exit codes: 0 done, 2 the name cannot be taken, 3 the folder is there or cannot be written."


class Kind(StrEnum):
    """What a package can provide; each has a folder of templates."""

    METHOD = "method"
    DATASET = "dataset"
    SUITE = "suite"
    PROVIDER = "provider"
    BACKBONE = "backbone"
    SCORE = "score"

    @property
    def registry(self) -> str:
        """What the host calls the registry of such names."""
        return "llm_providers" if self is Kind.PROVIDER else f"{self.value}s"


# How to see that the new thing is there.
_USE = {Kind.PROVIDER: "vlmprompt providers show", Kind.SCORE: "vlmprompt scores show"}

NameArgument = Annotated[
    str, typer.Argument(help="Of what the package provides, such as my-method.", show_default=False)
]
KindOption = Annotated[Kind, typer.Option("--kind", help="What it provides.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the package's folder is made.")]


def new(
    name: NameArgument,
    kind: KindOption = Kind.METHOD,
    out: OutOption = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Write the package of a new plugin, whose tests pass as it is.

    It is named vlmprompt-NAME, and provides one thing called NAME: change
    what it does, file by file. Nothing is overwritten.
    """
    require_free(name, kind)
    files = package_files(name, kind)
    folder = out / _distribution(name)
    write(folder, files)
    lines = [f"{folder} is written:", *(f"  {file}" for file in files), "", "next:", f"  cd {folder}"]
    lines += ["  python -m pip install -e '.[test]'", "  python -m pytest", f"  {_use(name, kind)}"]
    data = {"folder": str(folder), "files": list(files), "kind": kind.value, "name": name}
    output.emit("plugins new", data, as_json=as_json, table="\n".join(lines))


def require_free(name: str, kind: Kind) -> None:
    """Refuse a name that cannot be one, or is taken.

    Raises:
        UsageError: says by what.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(_class(name)):
        raise UsageError(
            f"{name!r} cannot be the name of a {kind}: it becomes that of a module and of a class, too",
            hint="small letters and digits, with '-' or '_' between words, such as my-method",
        )
    registry = host().registries.get(kind.registry)
    if registry is None:
        raise UsageError(f"plugins provide no {kind}s in this version of vlmprompt", hint="upgrade vlmprompt")
    if name in registry.names():
        taken = registry.get(name)
        raise UsageError(f"{kind} {name!r} is there already, of {taken.source}", hint="choose another name")
    if _is_installed(name):
        raise UsageError(f"there is a package {_distribution(name)} already", hint="choose another name")


def package_files(name: str, kind: Kind) -> dict[str, str]:
    """Path in the package's folder -> text."""
    words = {
        "name": name,
        "kind": kind.value,
        "module": _module(name),
        "package": f"{PREFIX}_{_module(name)}",
        "distribution": _distribution(name),
        "cls": _class(name),
        "api": VERSION,
        "use": _use(name, kind),
    }
    source = f"src/{words['package']}"
    places = {
        "pyproject.toml": "shared/pyproject.toml",
        "README.md": "shared/README.md",
        f"{source}/__init__.py": f"{kind}/__init__.py",
        f"{source}/{kind}.py": f"{kind}/{kind}.py",
        f"tests/test_{words['module']}.py": f"{kind}/test.py",
    }
    return {file: Template(_template(place)).substitute(words) for file, place in places.items()}


def write(folder: Path, files: dict[str, str]) -> None:
    """Write a folder that is not there yet, whole or not at all.

    Raises:
        InputError: there is something of that name, or it cannot be written.
    """
    if os.path.lexists(folder):
        raise InputError(f"{folder} is there already", hint="choose another name, or another folder with --out DIR")
    with staging(folder) as part:
        for file, text in files.items():
            (part / file).parent.mkdir(parents=True, exist_ok=True)
            (part / file).write_text(text, encoding="utf-8")
        part.rename(folder)


def _template(place: str) -> str:
    return _TEMPLATES.joinpath(f"{place}.tmpl").read_text(encoding="utf-8")


def _is_installed(name: str) -> bool:
    try:
        distribution(_distribution(name))
    except PackageNotFoundError:
        return find_spec(f"{PREFIX}_{_module(name)}") is not None
    return True


def _use(name: str, kind: Kind) -> str:
    return f"{_USE.get(kind, f'vlmprompt {kind}s show')} {name}"


def _distribution(name: str) -> str:
    return f"{PREFIX}-{name.replace('_', '-')}"


def _module(name: str) -> str:
    return name.replace("-", "_")


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in re.split("[-_]", name))
