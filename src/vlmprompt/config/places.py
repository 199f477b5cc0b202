"""Where the user's caches are."""

from __future__ import annotations

import os
from pathlib import Path

from vlmprompt.errors import InputError


def user_cache(folder: str) -> Path:
    """A folder below VLMPROMPT_CACHE_DIR, or below the user's cache folder; it need not exist.

    Raises:
        InputError: the variable names the home of nobody.
    """
    from platformdirs import user_cache_dir

    named = os.environ.get("VLMPROMPT_CACHE_DIR")
    try:
        return Path(os.path.expandvars(named or user_cache_dir("vlmprompt"))).expanduser() / folder
    except RuntimeError as error:
        raise InputError(f"VLMPROMPT_CACHE_DIR is {named!r}: {error}", hint="name a folder with it") from error
