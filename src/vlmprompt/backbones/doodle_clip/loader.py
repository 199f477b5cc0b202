"""`doodle-clip` and `doodle-clip-rn` by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from vlmprompt.backbones.backbone import Backbone, Identity
from vlmprompt.backbones.doodle_clip.parts import architecture, stored
from vlmprompt.backbones.openclip.clip import filled
from vlmprompt.backbones.openclip.tokens import bpe_tokenizer
from vlmprompt.backbones.precision import Precision
from vlmprompt.errors import UsageError

_IMAGE_TOWERS = {"doodle-clip": "vit", "doodle-clip-rn": "resnet"}


class DoodleClipLoader:
    """A small CLIP trained on drawings with captions by this project's own script, to run everything offline
    in seconds. It knows the words of its captions (see docs/doodle-clip.md); its numbers say that code trains
    and transfers, and nothing about published models.

    `doodle-clip` has a ViT (64 pixels, patch 8, width 192, 4 layers), `doodle-clip-rn` a ResNet (160 pixels,
    5 x 5 local features); both have one text tower (width 192, 4 layers) and QuickGELU."""

    def load(
        self, spec: str, *, device: str, precision: Precision, quick_gelu: bool | None, random_weights: int | None
    ) -> Backbone:
        """Build and freeze; with `random_weights` the architecture alone."""
        if quick_gelu is False:
            raise UsageError(f"backbone {spec!r} was trained with QuickGELU", hint="leave --no-quick-gelu out")
        image_tower = _IMAGE_TOWERS[spec]
        model, known = _model(image_tower, random_weights)
        identity = Identity(spec, random_weights, quick_gelu)
        return Backbone.from_model(
            model.to(device), bpe_tokenizer(), identity=identity, precision=precision, known_ids=known
        )

    def architecture(self, spec: str) -> dict[str, Any]:
        """See `architecture_of`."""
        return architecture(_IMAGE_TOWERS[spec])


def _model(image_tower: str, random_weights: int | None) -> tuple[nn.Module, frozenset[int] | None]:
    """The model, and the tokens that it was trained on; open_clip, which takes long to import, only where need be."""
    parts = architecture(image_tower)
    if random_weights is None and image_tower == "vit":
        state, known = stored(image_tower)
        return filled(parts, state), known
    from vlmprompt.backbones.openclip.build import clip_model
    from vlmprompt.backbones.openclip.unfilled import unfilled

    if random_weights is not None:
        return clip_model(parts, seed=random_weights), None
    state, known = stored(image_tower)
    with unfilled():
        model = clip_model(parts, seed=0)
    model.load_state_dict(state)
    return model, known
