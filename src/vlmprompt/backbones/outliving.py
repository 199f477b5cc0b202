"""What outlives a call is made outside `torch.inference_mode`, or nothing could be trained with it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def outliving() -> Iterator[None]:
    """Within (or in a function that it decorates), tensors are ordinary ones, whatever mode the caller is in.

    The rule: whatever keeps tensors beyond a call (a cache, a module's parameters and buffers, a new method or
    backbone) makes them in here. Whether gradients are recorded stays as it is.
    """
    grad = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grad):
        yield


def make_ordinary(model: nn.Module) -> None:
    """Replace those parameters and buffers of a frozen model that were made under `torch.inference_mode`."""
    with outliving():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.is_inference():
                    setattr(module, name, nn.Parameter(parameter.clone(), requires_grad=False))
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_inference():
                    setattr(module, name, buffer.clone())
