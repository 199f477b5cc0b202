"""Files of installed packages, read without importing the package: to import one can load torch."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from vlmprompt.errors import InputError


def package_folder(package: str) -> Path:
    """Where the files of an installed package lie.

    Raises:
        InputError: it is not installed.
    """
    spec = find_spec(package)
    places = (spec.submodule_search_locations or ()) if spec else ()
    for place in places:
        return Path(place)
    raise InputError(f"package {package} is not installed", hint=f"python -m pip install {package}")


def package_file(package: str, file: str) -> str:
    """A text file of an installed package.

    Raises:
        InputError: it is not installed, or has no such file.
    """
    path = package_folder(package) / file
    if not path.is_file():
        raise InputError(f"package {package} has no {file}", hint=f"reinstall {package}")
    return path.read_text(encoding="utf-8")


def assigned(package: str, file: str, name: str) -> ast.expr:
    """What a Python file of an installed package gives a name; parsed, never run.

    Raises:
        InputError: see `package_file`; or the file has no such name.
    """
    found = assignments(package, file)
    if name not in found:
        raise InputError(f"{package}'s {file} has no {name}", hint=f"install a version of {package} that has it")
    return found[name]


def assignments(package: str, file: str) -> dict[str, ast.expr]:
    """The first value of each variable of a Python file of an installed package; parsed, never run.

    Raises:
        InputError: see `package_file`.
        SyntaxError: this Python cannot parse it.
    """
    found: dict[str, ast.expr] = {}
    body = ast.parse(package_file(package, file)).body
    for statement in (step for step in body if isinstance(step, ast.Assign)):
        for target in statement.targets:
            found.setdefault(ast.unparse(target), statement.value)
    return found
