"""Commands in processes of their own, which see nothing of the checkout."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ReleaseError(Exception):
    """Something is not as it must be to be released."""


def run(
    command: Sequence[str | Path], *, cwd: Path, code: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that is to end with an exit code.

    Raises:
        ReleaseError: it ended with another; shows all that it printed.
    """
    words = [str(word) for word in command]
    print(f"$ {shlex.join(words)[:160]}", flush=True)
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, cwd=cwd, env=own | dict(env or {}), capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise ReleaseError(f"exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
    return done
