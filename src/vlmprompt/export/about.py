"""What an export says of itself, so that who has the file needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vlmprompt import __version__
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.training.runs import Run


def about(run: Run, frozen: FrozenMethod, temperature: float | None) -> dict[str, str]:
    """Texts by key; those of several parts are JSON.

    `preprocess` is how pictures become input: resized as `resize_mode` and `interpolation` say to height and width
    `size`, as RGB from 0 to 1, minus `mean`, over `std`; `upright`: turned by their EXIF orientation first, and what is
    transparent over white. `temperature` is there for a calibrated run, whose probabilities are softmax(logits /
    temperature).
    """
    backbone = frozen.method.backbone
    said = {
        "vlmprompt": __version__,
        "run": run.name,
        "method": run.config.method,
        "options": _json(run.config.options),
        "backbone": run.config.backbone,
        "backbone_digest": backbone.digest,
        "checkpoint_digest": run.digest,
        "class_names": _json(frozen.class_names),
        "preprocess": _json(_preprocess(run, frozen)),
    }
    return said if temperature is None else {**said, "temperature": repr(temperature)}


def _preprocess(run: Run, frozen: FrozenMethod) -> Mapping[str, object]:
    settings = frozen.method.backbone.preprocess
    return {
        "size": settings.sides,
        "mean": settings.mean,
        "std": settings.std,
        "interpolation": settings.interpolation,
        "resize_mode": settings.resize_mode,
        "upright": run.config.exif,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
