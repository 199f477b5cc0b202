"""Whether bf16 is worth it on this CPU: instructions for it may be there and still be slower than those for fp32."""

from __future__ import annotations

import statistics
import time
import warnings
from functools import cache

import torch
from torch.nn import functional as F

SECONDS = 0.5  # of processor time, for both precisions together
TOKENS, WIDTH = 128, 512  # an MLP of CLIP's text towers


def warn_of_slow_bf16(device: torch.device, precision: str) -> None:
    """Say that fp32 is faster, where bf16 was asked for on a CPU on which it is."""
    if (device.type, precision) != ("cpu", "bf16"):
        return
    ratio = times_as_long()
    if ratio > 1:
        warnings.warn(
            f"bf16 takes {ratio:.1f} times as long as fp32 on this CPU (an MLP of {TOKENS} tokens, both passes, "
            f"measured for {SECONDS:g} s); --precision fp32 is faster, and exact",
            stacklevel=2,
        )


@cache
def times_as_long() -> float:
    """Median time of an MLP under autocast in bf16 over that in fp32, forward and backward, measured once a process."""
    for reduced in (True, False):  # what is made once is not counted
        run_mlp(reduced)
    pairs = [(seconds(True), seconds(False))]
    while sum(map(sum, pairs)) < SECONDS:
        pairs.append((seconds(True), seconds(False)))
    reduced_s, full_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    return reduced_s / full_s


def seconds(reduced: bool) -> float:
    """Processor time of one pass; never 0, however coarse the clock."""
    start = time.process_time()
    run_mlp(reduced)
    return max(time.process_time() - start, 1e-6)


def run_mlp(reduced: bool) -> None:
    """Weights are kept in fp32 and cast on the way, as towers do it."""
    x_TD = torch.full((TOKENS, WIDTH), 0.1, requires_grad=True)
    fc, proj = torch.full((4 * WIDTH, WIDTH), 1e-3), torch.full((WIDTH, 4 * WIDTH), 1e-3)
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=reduced):
        out_TD = F.linear(F.silu(F.linear(x_TD, fc)), proj)
    out_TD.float().sum().backward()
