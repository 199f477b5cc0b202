"""The options of TDA; nothing heavy is imported here."""

from __future__ import annotations

from typing import ClassVar

from vlmprompt.api import Field, MethodConfig, TextTemplate


class TDAConfig(MethodConfig):
    """Options of TDA; the defaults are the code's values for ImageNet."""

    template_option: ClassVar[str | None] = "template"
    template: TextTemplate | None = Field(
        None,
        description="text with one {} for the class name, or a list of them, averaged as CLIP does; none: the data "
        "set's own; code: CLIP's seven for ImageNet, Caltech101, Cars and SUN397, which the shipped overrides set. "
        "Set by --templates FILE",
    )
    views: int = Field(
        1,
        ge=1,
        description="views of each image, the plain one included; code: 1, and 64 for ImageNet-A, -R, -V2 and "
        "-Sketch, which the shipped overrides set",
    )
    selected: float = Field(
        0.1, gt=0, le=1, description="share of several views, the surest, that are averaged, at least one; code: 0.1"
    )
    augmix: bool = Field(True, description="several views are made by AugMix, not by crops and flips alone; code: on")
    pos_capacity: int = Field(3, ge=1, description="images of a class in the positive cache; paper: 3")
    pos_alpha: float = Field(
        2.0, ge=0, description="weight of the positive cache; code: 2 for ImageNet, others by the shipped overrides"
    )
    pos_beta: float = Field(
        5.0, ge=0, description="its sharpness; code: 5 for ImageNet, others by the shipped overrides"
    )
    neg_capacity: int = Field(2, ge=1, description="images of a class in the negative cache; code: 2")
    neg_alpha: float = Field(0.117, ge=0, description="weight of the negative cache; code: 0.117")
    neg_beta: float = Field(1.0, ge=0, description="its sharpness; code: 1")
    entropy_low: float = Field(
        0.2,
        ge=0,
        description="an image enters the negative cache if its entropy (in nats, divided by log2 of the number of "
        "classes, as in the code) is above this; code: 0.2",
    )
    entropy_high: float = Field(0.5, description="and below this; code: 0.5")
    mask_low: float = Field(
        0.03,
        description="of an image in the negative cache, classes with a probability above this count as what it is "
        "not; code: 0.03",
    )
    mask_high: float = Field(1.0, description="and below this; code: 1")
