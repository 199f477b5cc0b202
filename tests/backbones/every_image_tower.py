"""The image tower of every architecture that open_clip lists, built shallow, against open_clip's own module.

Prints one line for each: what kind it is, how far its pooled features are from the module's own, how many local
features it gives, and how far the gradient of visual prompts is from a plain pass with hooks. Layer scales are raised
first: their initial values hide whole blocks. Ends with the counts; exit code 1 where one is off. Names given are
tried alone; architectures that share an image tower are tried once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from unittest import mock

import open_clip
import torch
from open_clip import timm_model
from torch import Tensor

from tests.backbones.image_towers import stirred
from tests.backbones.test_image_kinds import own, with_prompts
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.openclip.transforms import input_sides
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.backbones.vision.tower import VisionEngine
from vlmprompt.errors import VlmPromptError

TOLERANCE = 1e-5
# Ways to say "two layers" or "one block a stage" to timm's constructors; the first that one takes counts.
SHALLOW: tuple[dict[str, Any], ...] = (
    {"depth": 2},
    {"depths": (1, 1, 1, 1)},
    {"layers": (1, 1, 1, 1, 1)},
    {"layers": (1, 1, 1, 1)},
)


def main(names: list[str]) -> int:
    """Try all, or those named."""
    served: list[str] = []
    refused: list[str] = []
    off: list[str] = []
    seen: dict[str, list[str]] = {}  # description of an image tower -> which of the three it went into
    for architecture in names or sorted(open_clip.list_models()):
        config = open_clip.get_model_config(architecture)
        key = json.dumps([config["vision_cfg"], config["embed_dim"]], sort_keys=True)
        if key in seen:
            seen[key].append(architecture)
            continue
        visual = shallow(config)
        try:
            engine = vision_engine(visual, config["embed_dim"], nullcontext, architecture)
        except VlmPromptError as error:
            seen[key] = refused
            refused.append(architecture)
            print(f"{architecture:40} refused: {error}", flush=True)
            continue
        pooled, gradients = distances(visual, engine)
        seen[key] = served if pooled <= TOLERANCE and gradients <= TOLERANCE else off  # NaN is off
        seen[key].append(architecture)
        figures = f"pooled {pooled:.1e}" + (f", gradients {gradients:.1e}" if engine.has_prompts else ", no prompts")
        print(f"{architecture:40} {engine.kind}, {engine.grid[0]} x {engine.grid[1]}: {figures}", flush=True)
    print(f"{len(seen)} image towers of {len(names or open_clip.list_models())} architectures were tried")
    print(f"{len(served)} served, {len(refused)} refused, {len(off)} off by more than {TOLERANCE}: {off}")
    return 1 if off else 0


def shallow(config: Mapping[str, Any]) -> Any:
    """An architecture's image tower with two layers or one block a stage, at its own widths and size."""
    vision = dict(config["vision_cfg"])
    if isinstance(vision.get("layers"), list):
        vision["layers"] = [1, 1, 1, 1]
    elif "layers" in vision:
        vision["layers"] = 2
    create = timm_model.timm.create_model

    def create_shallow(name: str, **settings: Any) -> Any:
        for few in SHALLOW:
            try:
                return create(name, **settings, **few)
            except (TypeError, AssertionError, IndexError, ValueError):
                continue
        return create(name, **settings)

    with torch.random.fork_rng(devices=[]), mock.patch.object(timm_model.timm, "create_model", create_shallow):
        torch.manual_seed(0)
        tower = open_clip.model._build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu")))
        return stirred(tower, noise=0.01)


def distances(visual: Any, engine: VisionEngine) -> tuple[float, float]:
    """Relative errors of pooled features, and of the gradients of visual prompts (0 without)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, *input_sides(visual), generator=generator)
    with torch.no_grad():
        found = engine.encode(images, ImageNeeds(local="value_block"), VisualPrompts())
        pooled = apart(found.global_Bd, own(visual, images))
    if found.local_BNc is None or found.local_BNc.shape[1:] != (engine.n_local, engine.joint_dim):
        raise AssertionError(f"local features of {engine.kind} are not of {engine.n_local} places")
    if not engine.has_prompts:
        return pooled, 0.0
    prompts = {i: torch.randn(2, engine.width, generator=generator).requires_grad_() for i in range(engine.layers)}
    ours = engine.encode(images, ImageNeeds(grad=True), VisualPrompts(prompts, after_ln_pre=True)).global_Bd
    plain = with_prompts(visual, images, prompts)
    weights = torch.randn(ours.shape, generator=generator)
    gradients = [torch.autograd.grad((out * weights).sum(), list(prompts.values())) for out in (ours, plain)]
    return max(pooled, apart(ours, plain)), max(apart(a, b) for a, b in zip(*gradients, strict=True))


def apart(ours: Tensor, reference: Tensor) -> float:
    """Size of the error relative to that of the reference."""
    return float(((ours - reference).norm() / reference.norm()).detach())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
