"""What numbers of a method that adapts at test time depend on besides: the order of its streams."""

from __future__ import annotations

from collections.abc import Mapping

from vlmprompt.config.models import RunConfig
from vlmprompt.methods.stream_order import RULE, is_streamed


def stream_parts(config: RunConfig) -> Mapping[str, object]:
    """For the key of numbers; empty of a method that does not adapt."""
    return {"stream": {"order": RULE, "seed": config.seed}} if is_streamed(config.method) else {}


def stream_note(config: RunConfig) -> str:
    """For the reader of a row; empty of a method that does not adapt."""
    if not is_streamed(config.method):
        return ""
    return f"adapts at test time: each split is a stream of its own, in the order of {RULE}; stream seed {config.seed}"
