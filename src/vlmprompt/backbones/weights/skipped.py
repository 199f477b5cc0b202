"""What training scripts save beside tensors and plain values: skipped by stand-ins, so that the rest can be read."""

from __future__ import annotations

import argparse
from typing import Any

# Nobody here reads these: optimisers and schedules (Dassl's warm-up keeps the schedule behind it as an object, so that
# each of its files holds one), metrics as NumPy keeps them, paths and dates of a command line, and what fills a
# defaultdict.
SKIPPED = (
    *(f"torch.optim.{name}" for name in ("sgd.SGD", "adam.Adam", "adamw.AdamW", "rmsprop.RMSprop", "radam.RAdam")),
    *(f"torch.optim.lr_scheduler.{name}" for name in ("StepLR", "MultiStepLR", "CosineAnnealingLR", "LambdaLR")),
    *(f"dassl.optim.radam.{name}" for name in ("RAdam", "PlainRAdam", "AdamW")),
    *(f"{module}.multiarray.scalar" for module in ("numpy.core", "numpy._core")),
    *(f"numpy.{name}" for name in ("dtype", "dtypes.Float64DType", "dtypes.Float32DType")),
    *(f"{module}.{name}Path" for module in ("pathlib", "pathlib._local") for name in ("Posix", "Windows")),
    *(f"datetime.{name}" for name in ("datetime", "date", "timedelta")),
    *(f"builtins.{name}" for name in ("int", "float", "list", "str")),
)


class _Skipped:
    """Stands in the place of a `SKIPPED` thing, and forgets what it is given."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Table(dict[Any, Any]):
    """Stands in the place of `collections.defaultdict`."""

    def __new__(cls, *_: object) -> Any:
        return {}


def _stand_in(base: type, path: str) -> type:
    """A class that goes by the name of another one: nothing of that one is imported or called."""
    module, _, name = path.rpartition(".")
    return type(name, (base,), {"__module__": module})


# Beside tensors and plain values: what training scripts keep their command line in, and stand-ins.
ALLOWED = (
    argparse.Namespace,
    dict,
    _stand_in(_Table, "collections.defaultdict"),
    *(_stand_in(_Skipped, path) for path in SKIPPED),
)
