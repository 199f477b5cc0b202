"""How the processes of a run meet, and who this one works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vlmprompt.errors import InputError
from vlmprompt.parallel.group import ALONE, Group
from vlmprompt.parallel.launched import Launch, launch

_joined = ALONE
_apart = False


def joined() -> Group:
    """The processes that this one was launched with; itself, if with none."""
    return _joined


def current() -> Group:
    """Those that it works with now."""
    return ALONE if _apart else _joined


@contextmanager
def alone() -> Iterator[None]:
    """Within, this process works by itself, whatever the others do."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def join(url: str = "env://") -> Group:
    """Meet the other processes of this run, once; this one alone where no launcher has started others.

    Args:
        url: where they meet, see `torch.distributed.init_process_group`.

    Raises:
        InputError: the environment is no launcher's, torch cannot connect processes, or they do not come.
    """
    global _joined
    if _apart or not _joined.alone:
        return current()
    place = launch()
    if place is None:
        return ALONE
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise InputError(
            "this torch cannot connect processes: it was built without gloo",
            hint="install another build of torch, or start one process",
        )
    if not torch.distributed.is_initialized():
        _meet(url, place)
    _joined = Group(place, torch.distributed.distributed_c10d._get_default_store())
    return _joined


def _meet(url: str, place: Launch) -> None:
    backend = "cpu:gloo"
    if torch.cuda.is_available() and torch.distributed.is_nccl_available():
        backend += ",cuda:nccl"
    try:
        torch.distributed.init_process_group(backend, init_method=url, rank=place.rank, world_size=place.size)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"process {place.rank + 1} of {place.size} cannot meet the others: {str(error).splitlines()[0]}",
            hint="all must be started, and reach the first one's MASTER_ADDR and MASTER_PORT",
        ) from error


@contextmanager
def together() -> Iterator[None]:
    """Around (or, as a decorator, in) what all processes of a run do: they meet, and an error of one ends all."""
    with join().telling():
        yield
