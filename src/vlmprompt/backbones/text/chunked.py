"""Run a function over parts of a label space with bounded memory, gradients included.

As many parts as a budget has room for keep their activations for the backward pass, as any graph does. The others keep
none: the backward pass computes each of them again and adds up the gradients of the shared inputs. That is one
function over all of them rather than a checkpoint around each: results go into one buffer made in advance and nothing
long-lived lies between the large temporary tensors, so the allocator can reuse their memory from part to part (with a
checkpoint a part, resident memory was seen to grow with their number).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.text.budget import counting, kept_bytes
from vlmprompt.backbones.text.layout import Layout
from vlmprompt.backbones.text.tower import Chunking

Part = Callable[..., Tensor]

# Tokens (times prompts) of a part, on a CPU and elsewhere, of a tower of this width; ViT-B text: 0.25 MB a token.
WIDTH = 512
SUFFIX_TOKENS = (2048, 16384)  # where texts share their beginning
# Of whole texts. They have no prefix that every part runs again, so parts can be small, and more of the budget is kept:
# it has to leave room for one part that is computed again.
WHOLE_TOKENS = (768, 16384)


def most_tokens(held: tuple[int, int], device: torch.device, n_prompts: int, width: int) -> int:
    """Tokens that a chunk of classes may have, where each is run with so many prompts by a tower of this width."""
    on_cpu, elsewhere = held
    return (on_cpu if device.type == "cpu" else elsewhere) * WIDTH // (width * n_prompts)


def run_parts(
    parts: Sequence[Part], sizes: Sequence[int], inputs: Sequence[Tensor], first: Tensor | None = None
) -> Tensor:
    """The parts' results side by side, recomputed in the backward pass.

    Args:
        parts: each maps `inputs` to (P, size, d).
        sizes: classes of each part.
        inputs: tensors that all parts share; gradients flow to those that require them.
        first: the first part's result where it is known, without a graph.

    Returns:
        (P, sum of sizes, d), parts in order.
    """
    return _Recomputed.apply(parts, sizes, first, *inputs)


def run_layout(layout: Layout, run: Part, inputs: Sequence[Tensor], chunk: Chunking) -> Tensor:
    """All classes of a layout, in their own order: (P,K,d).

    Args:
        run: maps a chunk and `inputs` to (P, K of the chunk, d).
        chunk: what was asked for; "auto" keeps activations for the backward pass as far as the budget goes.
    """
    parts = [partial(run, part) for part in layout.chunks]
    sizes = [len(part.labels) for part in layout.chunks]
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in inputs):
        features = torch.cat([part(*inputs) for part in parts], dim=1)
    elif chunk != "auto":
        features = run_parts(parts, sizes, inputs)
    else:
        features = _within_budget(parts, sizes, inputs)
    return features.index_select(1, layout.restore_K)


def _within_budget(parts: Sequence[Part], sizes: Sequence[int], inputs: Sequence[Tensor]) -> Tensor:
    """The parts' results side by side; the first one says how much a part keeps, as none after it is larger."""
    if len(parts) == 1:
        return parts[0](*inputs)
    budget = kept_bytes(inputs[0].device)
    first, held = counting(lambda: parts[0](*inputs))
    # While a part is computed again, its activations need the room of one kept part: hence one less.
    kept = len(parts) if held * len(parts) <= budget else int(budget // held) - 1
    if kept < 1:
        first = first.detach()  # its graph is gone before the next part runs
        return run_parts(parts, sizes, inputs, first)
    # The backward pass goes from the newest to the oldest, so what is kept is released before anything is computed
    # again: parts in the middle run before those at the end.
    again = slice(1, 1 + len(parts) - kept)
    middle = [run_parts(parts[again], sizes[again], inputs)] if kept < len(parts) else []
    return torch.cat([first, *middle, *(part(*inputs) for part in parts[again.stop :])], dim=1)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Sequence[Part], sizes: Sequence[int], first: Tensor | None, *inputs: Tensor) -> Tensor:
        device = inputs[0].device.type
        ctx.parts, ctx.sizes = parts, sizes
        # The backward pass does not run in the caller's autocast, but must compute the parts in the same types.
        ctx.autocast = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }
        ctx.save_for_backward(*inputs)
        out, start = inputs[0].new_empty(0), 0
        for part, size in zip(parts, sizes, strict=True):
            result = first if first is not None and start == 0 else part(*inputs)
            if start == 0:  # only now the type and (P,d) of the results are known
                out = result.new_empty(result.shape[0], sum(sizes), result.shape[2])
            out[:, start : start + size] = result
            start += size
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_out,) = grads
        # `needs_input_grad` counts what stands before the inputs as well: they begin at its fourth entry.
        needed = [i for i, wanted in enumerate(ctx.needs_input_grad[3:]) if wanted]
        inputs = [t.detach().requires_grad_(i in needed) for i, t in enumerate(ctx.saved_tensors)]
        # Made before the first part, like the buffer in `forward`, and added to in place; see the top of the file.
        total: dict[int, Tensor] = {i: torch.zeros_like(inputs[i]) for i in needed}
        start = 0
        for part, size in zip(ctx.parts, ctx.sizes, strict=True):
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                result = part(*inputs)
            # A part need not read every input: not the context table, where all context tokens are in the prefix.
            own = torch.autograd.grad(
                result, [inputs[i] for i in needed], grad_out[:, start : start + size], allow_unused=True
            )
            for i, grad in zip(needed, own, strict=True):
                if grad is not None:
                    total[i] += grad
            start += size
        return (None, None, None, *(total.get(i) for i in range(len(inputs))))
