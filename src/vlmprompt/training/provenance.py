"""What goes into `run.json`, gathered from the data, the towers and the machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.distributions import code_version
from vlmprompt.plugins import CORE, host
from vlmprompt.training.run_info import BackboneInfo, DataInfo, DescriptionsInfo
from vlmprompt.training.trainset import TrainSet

# What `versions` names beside the method's own package.
LIBRARIES = ("python", CORE, "torch", "open_clip")


def data_info(data: TrainSet) -> DataInfo:
    """What run.json keeps of the data."""
    dataset, split = data.dataset, data.split
    return DataInfo(
        spec=dataset.spec,
        name=dataset.name,
        digest=data.digests.listed,
        learned=data.digests.learned,
        template=dataset.template,
        notes=dict(dataset.notes),
        classes=len(dataset.class_names),
        labels=data.labels,
        train_ids=tuple(r.id for r in split.train),
        val_ids=tuple(r.id for r in split.val),
        val_source=data.val_source,
        fewshot_digest=split.digest,
        unlabelled=len(data.unlabelled),
    )


def descriptions_info(data: TrainSet) -> DescriptionsInfo | None:
    """What run.json keeps of the descriptions, if the method read any."""
    file, texts = data.description_file, data.descriptions
    if file is None or texts is None:
        return None
    return DescriptionsInfo(
        file=str(file.path.absolute()),
        digest=file.digest,
        providers=file.providers,
        texts=sum(map(len, texts)),
        missing=tuple(name for name, own in zip(data.class_names, texts, strict=True) if not own),
    )


def backbone_info(backbone: Backbone) -> BackboneInfo:
    """What run.json keeps of the towers."""
    return BackboneInfo(
        spec=backbone.spec,
        name=backbone.name,
        digest=backbone.digest,
        random_weights=backbone.random_weights,
        quick_gelu=backbone.quick_gelu,
        file=backbone.identity.file,
        stand_in=backbone.identity.stand_in,
        sides=backbone.preprocess.sides,
        is_quick=backbone.is_quick,
    )


def versions(method: str) -> dict[str, str]:
    """Versions of what numbers depend on; of our own code see `code_version`."""
    found = {"python": platform.python_version(), CORE: code_version(CORE), "torch": str(torch.__version__)}
    found["open_clip"] = code_version("open_clip_torch")
    own = host().methods.get(method).distribution
    return found | {own: code_version(own)}


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes at the highest so far: of the process, and on a CUDA device."""
    peak: dict[str, int] = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if device.type == "cuda":
        peak["cuda"] = torch.cuda.max_memory_allocated(device)
    return peak


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC).replace(microsecond=0)


def changed_keys(old: RunConfig, new: RunConfig) -> list[str]:
    """Configuration keys in which two runs differ, as `key (old -> new)`."""
    before, after = _flat(old), _flat(new)
    keys = sorted(before.keys() | after.keys())
    return [f"{k} ({before.get(k)!r} -> {after.get(k)!r})" for k in keys if before.get(k) != after.get(k)]


def _flat(config: RunConfig) -> dict[str, Any]:
    content: Mapping[str, Any] = config.model_dump(mode="json")
    nested = {f"{part}.{key}": value for part in ("train", "options") for key, value in content[part].items()}
    return {key: value for key, value in content.items() if key not in ("train", "options")} | nested
