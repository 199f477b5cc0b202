"""Whether a launcher started this process as one of several for one run: a look at the environment, without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vlmprompt.errors import InputError

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """The place of this process among those of a run.

    Attributes:
        rank: from 0; the first process is the one that writes and speaks.
        size: how many there are.
        local_rank: the place among those of this machine, which is also the number of its card.
    """

    rank: int
    size: int
    local_rank: int


def launch() -> Launch | None:
    """What torchrun or `accelerate launch` has set; None for a process of its own.

    Raises:
        InputError: the environment says a part of it, or no numbers.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"RANK is set, as by a launcher of several processes, but {' and '.join(missing)} is not",
            hint="start it with torchrun, or unset RANK and WORLD_SIZE to run one process",
        )
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    local = _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else rank
    if not rank < size:
        raise InputError(f"RANK is {rank} of WORLD_SIZE {size}", hint="ranks are counted from 0")
    return Launch(rank, size, local)


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise InputError(f"environment variable {name} is {text!r}, and no number", hint="start it with torchrun")
    return int(text)
