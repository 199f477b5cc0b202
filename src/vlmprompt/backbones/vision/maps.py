"""The engine of image towers that end in a map of positions and a pool: pooled and local features, no prompts.

Shapes: B images, N positions, c width of the map, C width before the projection, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, VisualPrompts
from vlmprompt.backbones.vision.grad_cam import weighted_map
from vlmprompt.backbones.vision.tower import MapTower, require_local
from vlmprompt.errors import CapabilityError


class MapEngine:
    """See `VisionEngine`."""

    has_prompts = False
    layers = 0

    def __init__(self, tower: MapTower, autocast: Autocast = nullcontext) -> None:
        self.tower = tower
        self._autocast = autocast
        self.kind = tower.kind
        self.grid = tower.grid
        self.joint_dim = tower.joint_dim
        self.width = tower.width
        self.n_local = tower.grid[0] * tower.grid[1]

    @property
    def local_width(self) -> int:
        """C; the joint width where the tower's last map is not a plain matrix."""
        projection = self.tower.projection
        return self.joint_dim if projection is None else projection.shape[0]

    @property
    def projection(self) -> Tensor | None:
        """The tower's last linear map (C,d)."""
        return self.tower.projection

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

    def _project(self, x: Tensor) -> Tensor:
        projection = self.tower.projection
        return x if projection is None else x @ projection
