"""The engine of image towers that end in a map of positions and a pool: pooled and local features, no prompts.

Shapes: B images, N positions, c width of the map, C width before the projection, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, VisualPrompts
from vlmprompt.backbones.vision.engine import ImageEngine
from vlmprompt.backbones.vision.grad_cam import weighted_map
from vlmprompt.backbones.vision.tower import MapTower, require_local
from vlmprompt.errors import CapabilityError


class MapEngine(ImageEngine[MapTower]):
    """See `VisionEngine`."""

    has_prompts = False
    layers = 0

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,C) or (B,N,d) as `needs` says."""
        if prompts:
            raise CapabilityError(f"visual prompts need a ViT image tower; this backbone's is a {self.tower.kind}")
        require_local(self, needs)
        with self._autocast():
            pooled_BC, local_BNC = self.tower.read(self.tower.map(images), needs.local)
            if local_BNC is not None and needs.space == "joint":
                local_BNC = self._project(local_BNC)
            return ImageFeatures(self._project(pooled_BC), local_BNC)

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        with torch.no_grad(), self._autocast():
            map_BNc = self.tower.map(images)

        def pooled(map_BNc: Tensor) -> Tensor:
            with self._autocast():
                return self._project(self.tower.read(map_BNc, None)[0])

        return weighted_map(map_BNc, pooled, target, first=0)
