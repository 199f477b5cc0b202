"""Images of another size than the one that a tower was built for.

Shapes: T tokens (S special ones, N patches in H rows and W columns), c width.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vlmprompt.errors import CapabilityError, InputError


def resize_input(model: Any, sides: tuple[int, int], name: str) -> None:
    """Make a model, with the weights it is to have, read images of (height, width) pixels.

    Positions are interpolated as open_clip does it where it loads weights into a model of another size, or by timm.

    Args:
        name: of the backbone, for errors.

    Raises:
        InputError: the sides are not whole numbers of patches, or too small for the tower's windows.
        CapabilityError: a tower whose positions cannot be interpolated.
    """
    visual = model.visual
    if isinstance(visual, ModifiedResNet) or not isinstance(visual, TimmModel | VisionTransformer):
        raise CapabilityError(
            f"the image tower of backbone {name!r}, a {type(visual).__name__}, reads images of one size alone: "
            f"{_by(visual.image_size)}",
            hint="leave --image-size out, or use a ViT or a ConvNeXt",
        )
    steps = _steps(visual)
    pairs = list(zip(sides, steps, strict=True))
    if any(side < step or side % step for side, step in pairs):
        fitting = tuple(max(step, round(side / step) * step) for side, step in pairs)
        raise InputError(
            f"images of {_by(sides)} pixels do not divide into the patches of backbone {name!r}, "
            f"of {_by(steps)} pixels",
            hint=f"--image-size {_option(fitting)}",
        )
    if isinstance(visual, TimmModel):
        try:
            with warnings.catch_warnings():  # of torch, about how timm interpolates
                warnings.simplefilter("ignore", UserWarning)
                visual.set_input_size(sides)
        except (AssertionError, RuntimeError, ValueError) as error:  # what timm says of windows that do not fit
            raise InputError(f"backbone {name!r} cannot read images of {_by(sides)} pixels: {error}") from error
        return
    old, new = tuple(visual.grid_size), (sides[0] // steps[0], sides[1] // steps[1])
    visual.image_size, visual.grid_size = sides, new
    if old != new:
        positions_Tc = _interpolated(visual.positional_embedding.detach(), old, new)
        visual.positional_embedding = nn.Parameter(positions_Tc, requires_grad=False)


def warn_of_size(model: Any, name: str) -> None:
    """Warn of a tower whose pictures have another size than its trunk was made for (open_clip's ViTamin-XL-384)."""
    trunk = getattr(model.visual, "trunk", None)
    made_for = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
    if made_for is None or tuple(made_for) == tuple(_sides(model.visual.image_size)):
        return
    warnings.warn(
        f"backbone {name!r} reads images of {_by(model.visual.image_size)} pixels, as open_clip describes it, though "
        f"its trunk was made for {_by(made_for)}: --image-size {_option(made_for)} reads those",
        stacklevel=2,
    )


def _interpolated(positions_Tc: Tensor, old: tuple[int, ...], new: tuple[int, int]) -> Tensor:
    """Positions of a grid of patches, those of special tokens before them, on another grid.

    By the interpolation of open_clip's `resize_pos_embed`, which takes the old grid for a square one, and leaves
    positions where they are if the new one has as many patches.
    """
    special_Sc, patches_Nc = positions_Tc.tensor_split([len(positions_Tc) - old[0] * old[1]])
    map_1cHW = patches_Nc.unflatten(0, old).permute(2, 0, 1)[None]
    map_1cHW = F.interpolate(map_1cHW, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([special_Sc, map_1cHW[0].flatten(1).T])


def _steps(visual: Any) -> tuple[int, int]:
    """Pixels from one patch or position of the last map to the next: down, and to the right."""
    if isinstance(visual, VisionTransformer):
        height, width = visual.patch_size
        return int(height), int(width)
    step = int(visual.trunk.feature_info[-1]["reduction"])
    return step, step


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _by(size: int | tuple[int, int]) -> str:
    height, width = _sides(size)
    return f"{height} x {width}"


def _option(sides: tuple[int, ...]) -> str:
    height, width = sides
    return str(height) if height == width else f"{height}x{width}"
