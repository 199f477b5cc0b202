"""The options of TPT; nothing heavy is imported here."""

from __future__ import annotations

from vlmprompt.api import Field, MethodConfig


class TPTConfig(MethodConfig):
    """Options of TPT."""

    ctx_init: str = Field(
        "a photo of a",
        min_length=1,
        description="words whose embeddings every image's context starts with; paper and code's script: a photo of a",
    )
    views: int = Field(64, ge=1, description="views of each image, the plain one included; paper: 64")
    selected: float = Field(
        0.1, gt=0, le=1, description="share of the views, the surest, that are made to agree, at least one; paper: 0.1"
    )
    steps: int = Field(1, ge=1, description="steps of AdamW for each image; paper: 1")
    lr: float = Field(0.005, gt=0, description="their learning rate; paper: 0.005")
    augmix: bool = Field(
        False,
        description="put AugMix on top of random crops and flips; code: off for ImageNet and its variants, on for the "
        "fine-grained data sets, which the shipped overrides set",
    )
