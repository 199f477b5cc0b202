"""Images of another size than the one that a tower was built for."""

from __future__ import annotations

import warnings
from typing import Any

from open_clip.model import resize_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

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
    step = _step(visual)
    if any(side < step or side % step for side in sides):
        fitting = tuple(max(step, round(side / step) * step) for side in sides)
        raise InputError(
            f"images of {_by(sides)} pixels do not divide into the patches of backbone {name!r}, "
            f"of {step} x {step} pixels",
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
    positions = {"visual.positional_embedding": visual.positional_embedding.detach()}
    visual.image_size, visual.grid_size = sides, (sides[0] // step, sides[1] // step)
    resize_pos_embed(positions, model)
    visual.positional_embedding = nn.Parameter(positions["visual.positional_embedding"], requires_grad=False)


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


def _step(visual: Any) -> int:
    """Pixels from one patch or position of the last map to the next."""
    if isinstance(visual, VisionTransformer):
        return int(visual.patch_size[0])
    return int(visual.trunk.feature_info[-1]["reduction"])


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _by(size: int | tuple[int, int]) -> str:
    height, width = _sides(size)
    return f"{height} x {width}"


def _option(sides: tuple[int, ...]) -> str:
    height, width = sides
    return str(height) if height == width else f"{height}x{width}"
