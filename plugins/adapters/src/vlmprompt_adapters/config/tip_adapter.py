"""The options of Tip-Adapter; nothing heavy is imported here."""

from __future__ import annotations

from typing import Annotated, Literal

from vlmprompt.api import Field
from vlmprompt_adapters.config.texts import TextsConfig

Most = Annotated[float, Field(gt=0.1)]
Steps = Annotated[int, Field(ge=1, le=10_000)]


class TipAdapterConfig(TextsConfig):
    """Options of Tip-Adapter."""

    alpha: float = Field(
        1.17,
        ge=0,
        description="weight of the cache beside 100 times a cosine; code: 1.17 for ImageNet, others by the shipped "
        "overrides",
    )
    beta: float = Field(1.0, ge=0, description="sharpness of the cache's affinities; code: 1")
    search: Literal["none", "val"] = Field(
        "none",
        description="where alpha and beta come from: none, the two options; val, the best on the validation images "
        "(code; for ImageNet it searches on the test images, which is not offered)",
    )
    search_scale: tuple[Most, Most] = Field(
        (7.0, 3.0),
        description="upper ends of the search in beta and alpha, never reached; code: 7 and 3 for ImageNet, others by "
        "the shipped overrides",
    )
    search_step: tuple[Steps, Steps] = Field(
        (200, 20), description="values of beta and alpha that are tried, from 0.1 on; code: 200 and 20"
    )
    views: int = Field(
        10, ge=1, description="random views of each image whose features are averaged into its key; code: 10"
    )
