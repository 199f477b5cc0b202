"""What both engines of image towers have: the tower's sizes, and its last linear map.

Shapes: * any leading dimensions, C raw width of local features, d joint width.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Generic, TypeVar

from torch import Tensor

from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.backbones.vision.tower import INSTEAD_OF_LOCAL, ImageTower
from vlmprompt.errors import CapabilityError

Tower = TypeVar("Tower", bound=ImageTower)


class ImageEngine(Generic[Tower]):
    """The part of a `VisionEngine` that does not depend on the kind of its tower.

    Args:
        tower: the frozen tower.
        autocast: context in which the tower runs (reduced precision), default none.
    """

    def __init__(self, tower: Tower, autocast: Autocast = nullcontext) -> None:
        self.tower = tower
        self._autocast = autocast
        self.kind = tower.kind
        self.grid = tower.grid
        self.width = tower.width
        self.joint_dim = tower.joint_dim
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

    def require(self, needs: ImageNeeds) -> None:
        """See `VisionEngine.require`."""
        if needs.local is not None and not self.n_local:
            raise CapabilityError(
                f"local image features are needed; this backbone's image tower is a {self.kind}, which has none",
                hint=INSTEAD_OF_LOCAL,
            )
        blocks = getattr(self.tower, "blocks", ())
        if needs.local == "value_attention" and not (blocks and all(hasattr(b, "value_attention") for b in blocks)):
            raise CapabilityError(
                f"local features by value_attention are needed; the blocks of this {self.kind} cannot give them",
                hint="use a ViT of open_clip's own, such as ViT-B-16, or local features of another kind (value_block)",
            )

    def _project(self, x: Tensor) -> Tensor:
        """(*,C) -> (*,d)."""
        projection = self.tower.projection
        return x if projection is None else x @ projection
