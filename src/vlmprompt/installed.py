"""Files of installed packages, read without importing the package: to import one can load torch."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from vlmprompt.errors import InputError


def package_file(package: str, file: str) -> str:
    """A text file of an installed package.

    Raises:
        InputError: it is not installed, or has no such file.
    """
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / file
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise InputError(f"package {package} is not installed, or has no {file}", hint=f"reinstall {package}")


def assigned(package: str, file: str, name: str) -> ast.expr:
    """What a Python file of an installed package gives a name; parsed, never run.

    Raises:
        InputError: see `package_file`; or the file has no such name.
    """
    for statement in ast.parse(package_file(package, file)).body:
        if isinstance(statement, ast.Assign) and any(ast.unparse(target) == name for target in statement.targets):
            return statement.value
    raise InputError(f"{package}'s {file} has no {name}", hint=f"install a version of {package} that has it")
