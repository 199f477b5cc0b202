"""Tensors of many things, computed in shares and put together; if one process fails at it, all do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor

from vlmprompt.errors import InputError, VlmPromptError, message_of
from vlmprompt.parallel.group import Group

GOOD, BAD = b"+", b"-"


def side_by_side(group: Group, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all processes, put together along their first dimension, in the order of the processes.

    Args:
        compute: gives this process's, on the CPU; by names of which it may lack some.

    Raises:
        InputError: another process has failed; names it and why.
        Exception: what `compute` raises, once the others know.
    """
    try:
        content, failed = GOOD + save({name: own.contiguous() for name, own in compute().items()}), None
    except Exception as error:
        content, failed = BAD + _words(error), error
    parts = group.gather(content)
    if failed is not None:
        raise failed
    for rank, part in enumerate(parts, 1):
        if part.startswith(BAD):
            told = json.loads(part[1:])
            raise InputError(f"process {rank} of {group.size}: {told['message']}", hint=told["hint"])
    tables = [load(part[1:]) for part in parts]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: torch.cat([table[name] for table in tables if name in table]) for name in names}


def _words(error: Exception) -> bytes:
    hint = error.hint if isinstance(error, VlmPromptError) else None
    message = message_of(error) if isinstance(error, VlmPromptError) else f"{type(error).__name__}: {error}"
    return json.dumps({"message": message, "hint": hint}).encode()
