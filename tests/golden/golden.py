"""Reads a golden case: its tensors, its settings, and the reference's CLIP in open_clip's own class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone

HERE = Path(__file__).parent

# At a lambda of 0.02 PLOT's factors are so large that rounding, and so the processor, decides whether its rule is met
# within its 100 iterations; the plans are the same.
settled_or_not = pytest.mark.filterwarnings("ignore:transport plans short of their tolerance")


@dataclass(frozen=True)
class Golden:
    """One case."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        return list(self.settings["class_names"])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix."""
        return {k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)}

    def backbone(self) -> Backbone:
        config = self.settings["open_clip_config"]
        model = open_clip.model.CLIP(**config)
        weights = self.group("clip.")
        table = torch.zeros(config["text_cfg"]["vocab_size"], config["text_cfg"]["width"])
        table[self.tensors["token_embedding.ids"]] = self.tensors["token_embedding.rows"]
        model.load_state_dict(weights | {"token_embedding.weight": table})
        return Backbone.from_model(model, open_clip.SimpleTokenizer(), name="golden")


def load(case: str) -> Golden:
    return Golden(json.loads((HERE / f"{case}.json").read_text()), load_file(HERE / f"{case}.safetensors"))


def close(ours: Tensor, reference: Tensor, *, of_max: float) -> None:
    """Largest error relative to the largest reference value."""
    assert ours.shape == reference.shape
    assert (ours.detach() - reference).abs().max() <= of_max * reference.abs().max()
