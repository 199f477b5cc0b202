"""How dataclasses of tensors show themselves."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor


class Shaped:
    """Base of dataclasses of tensors, which show shapes (of a scalar its value): nobody reads a batch's numbers."""

    def __repr__(self) -> str:
        shown = [f"{f.name}={shape_of(getattr(self, f.name))}" for f in fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


def shape_of(value: Any) -> str:
    """A tensor's shape, or its value where it is a scalar; of a table each value so; else its `repr`."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape)) if value.ndim else f"{value.item():.4g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {shape_of(own)}" for key, own in value.items()) + "}"
    return repr(value)
