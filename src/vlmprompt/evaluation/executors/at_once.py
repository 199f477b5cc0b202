"""How many runs of a sweep this machine does at once where nobody says."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from vlmprompt.errors import UsageError
from vlmprompt.evaluation.executors.local_config import MOST_JOBS

VARIABLE = "VLMPROMPT_JOBS"
# Two runs at once, each with half of the threads, take less time than one after the other with all of them: products of
# matrices, most of a step, are spread over threads well, and what lies between them is not. Beyond a few it is memory
# that they wait for.
MOST = 4
# Of main memory, for each: towers, the activations that a text step keeps (2 GB), and images.
BYTES_EACH = 4e9
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def runs_at_once(left: int, device: str) -> int:
    """What VLMPROMPT_JOBS says; else on a CPU one a core, at most four, and one for each 4 GB of memory; elsewhere 1.

    Args:
        left: runs that are to be trained.
        device: as `resolve_device` takes it.

    Raises:
        UsageError: VLMPROMPT_JOBS is no number of runs; or see `resolve_device`.
        InputError: see `resolve_device`.
    """
    import torch

    from vlmprompt.training.device import resolve_device

    if (asked := os.environ.get(VARIABLE)) is not None:
        return max(1, min(left, _number(asked)))
    if left < 2 or resolve_device(device).type != "cpu":
        return 1
    return max(1, int(min(left, torch.get_num_threads(), MOST, memory_bytes() / BYTES_EACH)))


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_JOBS:
        raise UsageError(
            f"the variable {VARIABLE} is {text!r}, which is no number of runs from 1 to {MOST_JOBS}",
            hint=f"{VARIABLE}=1 does the runs of a sweep one after the other",
        )
    return int(text)


def memory_bytes() -> float:
    """Main memory of this machine, or what a container may have of it; infinite where the system does not say."""
    found = math.inf
    with suppress(AttributeError, ValueError, OSError):  # no sysconf, such as on Windows
        found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ValueError, OSError):  # no such file, or "max"
        found = min(found, float(CONTAINER_LIMIT.read_text(encoding="ascii")))
    return found
