"""Models built without drawing random numbers for parameters that weights are loaded over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What fills a tensor that is there, whatever it held: torch's own draws, its initialisers, and the step that makes
# truncated normal numbers of uniform ones (torch's and timm's, which nothing else in a tower calls).
_FILL: frozenset[Any] = frozenset(
    [
        *(Tensor.normal_, Tensor.uniform_, Tensor.erfinv_),
        *(nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_),
    ]
)


@contextmanager
def unfilled() -> Iterator[None]:
    """Within, random initial values are left out: such parameters hold whatever was in their memory.

    Whoever builds a model in here gives it all of its parameters afterwards. What is computed (masks, tables of
    positions) is as ever.
    """
    with _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FILL:
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            kwargs.pop("generator", None)
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)
