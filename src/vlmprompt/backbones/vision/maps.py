"""The engine of image towers that end in a map of positions and a pool: pooled and local features, no prompts.

Shapes: B images, N positions, c width of the map, C width before the projection, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, VisualPrompts
from vlmprompt.backbones.vision.engine import ImageEngine
from vlmprompt.backbones.vision.grad_cam import weighted_channels, weighted_map
from vlmprompt.backbones.vision.tower import MapTower, require_places, require_prompt_outputs
from vlmprompt.errors import CapabilityError


class MapEngine(ImageEngine[MapTower]):
    """See `VisionEngine`."""

    has_prompts = False
    takes_deltas = False
    layers = 0

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,C) or (B,N,d) as `needs` says."""
        self._check(needs, prompts)
        with self._autocast():
            map_BNc = self.tower.map(images)
        return self._read(map_BNc, needs)

    def encode_each(self, images: Tensor, needs: Sequence[ImageNeeds]) -> list[ImageFeatures]:
        """See `VisionEngine.encode_each`."""
        for one in needs:
            self._check(one, VisualPrompts())
        with self._autocast():
            map_BNc = self.tower.map(images)
        return [self._read(map_BNc, one) for one in needs]

    def shares_global(self, needs: ImageNeeds) -> bool:
        """See `VisionEngine.shares_global`; for "tokens" an attention pool asks with more tokens."""
        return not needs.prompt_outputs and needs.local != "tokens"

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        with torch.no_grad(), self._autocast():
            map_BNc = self.tower.map(images)

        def pooled(map_BNc: Tensor) -> Tensor:
            with self._autocast():
                return self._project(self.tower.read(map_BNc, None)[0])

        return weighted_map(map_BNc, pooled, target, first=0)

    def class_map(
        self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts, target: Callable[[ImageFeatures], Tensor]
    ) -> Tensor:
        """See `VisionEngine.class_map`."""
        self._check(needs, prompts)
        require_places(self)
        with torch.no_grad(), self._autocast():
            map_BNc = self.tower.map(images)
        with torch.enable_grad():
            map_BNc.requires_grad_()
            (grad_BNc,) = torch.autograd.grad(target(self._read(map_BNc, needs)).sum(), map_BNc)
        return weighted_channels(map_BNc.detach(), grad_BNc)

    def _read(self, map_BNc: Tensor, needs: ImageNeeds) -> ImageFeatures:
        with self._autocast():
            pooled_BC, local_BNC = self.tower.read(map_BNc, needs.local)
            if local_BNC is not None and needs.space == "joint":
                local_BNC = self._project(local_BNC)
            return ImageFeatures(self._project(pooled_BC), local_BNC)

    def _check(self, needs: ImageNeeds, prompts: VisualPrompts) -> None:
        if prompts:
            raise CapabilityError(f"visual prompts need a ViT image tower; this backbone's is a {self.tower.kind}")
        if prompts.deltas:
            raise CapabilityError(
                f"deltas of an image tower need a ViT; this backbone's is a {self.tower.kind}",
                hint="use a ViT such as ViT-B-16-quickgelu/openai, or a method that leaves the image tower as it is",
            )
        self.require(needs)
        require_prompt_outputs(self, needs, prompts)
