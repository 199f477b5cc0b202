"""What devices are called, known without torch."""

from __future__ import annotations

import re

from vlmprompt.errors import UsageError

_DEVICE = re.compile(r"auto|(cpu|cuda|mps)(:\d{1,4})?")


def require_device(name: str) -> None:
    """Refuse what is no name of a device; whether this machine has it is another question.

    Raises:
        UsageError: with the names that there are.
    """
    if not _DEVICE.fullmatch(name):
        raise UsageError(f"unknown device {name!r}", hint="auto, cpu, cuda, cuda:<index> or mps")
