"""What is exported, and what it is tried on.

Shapes: B images, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError
from vlmprompt.export.agreement import Difference
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.training.runs import Run


@dataclass(frozen=True)
class Subject:
    """A run with its method at work.

    Attributes:
        frozen: the trained method, its text encoded.
        said: what the export says of itself; see `about`.
        pixels_B3HW: the images that it is tried on, three at least.
    """

    run: Run
    frozen: FrozenMethod
    said: Mapping[str, str]
    pixels_B3HW: Tensor

    @property
    def method(self) -> str:
        """Its name."""
        return self.run.config.method

    @property
    def backbone(self) -> Backbone:
        """Its towers."""
        return self.frozen.method.backbone

    def require(self, found: Difference, tolerance: float, what: str) -> None:
        """Refuse what does not say the same as the run.

        Raises:
            InputError: names the difference.
        """
        if not found.relative <= tolerance:
            raise InputError(
                f"{what} of run {self.run.name} gives other logits than the run, by {found.absolute:.2g}: "
                "nothing was written",
                hint="please report it, with the versions that 'vlmprompt doctor' shows",
            )
