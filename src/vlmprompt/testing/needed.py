"""pytest, which comes with the environment of a plugin's author and not with vlmprompt."""

from __future__ import annotations

import importlib
from types import ModuleType

from vlmprompt.errors import InputError


def load_pytest() -> ModuleType:
    """pytest.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("pytest")
    except ModuleNotFoundError as error:
        raise InputError("vlmprompt.testing needs pytest, which is not installed", hint="pip install pytest") from error
