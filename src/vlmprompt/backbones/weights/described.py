"""What a folder's JSON files say of a model: read once, as transformers and open_clip write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from vlmprompt.errors import InputError

Described = TypeVar("Described", bound=BaseModel)
_Deviation = Annotated[FiniteFloat, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Tower(_Part):
    """Sizes of one tower of a `CLIPModel`; the defaults are transformers' own, for what a config.json leaves out."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt = 12
    num_attention_heads: PositiveInt
    hidden_act: str = "quick_gelu"

    @model_validator(mode="after")
    def _divisible(self) -> _Tower:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{self.num_attention_heads} heads do not divide a hidden_size of {self.hidden_size}")
        return self


class TextTower(_Tower):
    """`text_config`."""

    hidden_size: PositiveInt = 512
    intermediate_size: PositiveInt = 2048
    num_attention_heads: PositiveInt = 8
    max_position_embeddings: PositiveInt = 77
    vocab_size: PositiveInt = 49408


class VisionTower(_Tower):
    """`vision_config`."""

    hidden_size: PositiveInt = 768
    intermediate_size: PositiveInt = 3072
    num_attention_heads: PositiveInt = 12
    image_size: PositiveInt = 224
    patch_size: PositiveInt = 32


class ClipModel(_Part):
    """config.json of a `CLIPModel`."""

    text_config: TextTower
    vision_config: VisionTower
    projection_dim: PositiveInt = 512


class ImageSettings(_Part):
    """Statistics of the image transform, by transformers' names or open_clip's; None where they are not said."""

    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        default=None, validation_alias=AliasChoices("image_mean", "mean")
    )
    std: tuple[_Deviation, _Deviation, _Deviation] | None = Field(
        default=None, validation_alias=AliasChoices("image_std", "std")
    )


def read_as(kind: type[Described], content: object, place: str) -> Described:
    """What a file says, of the wanted kind.

    Args:
        content: of the file, or of the part of it that is read.
        place: the file, for errors.

    Raises:
        InputError: names the file, the key, and what is wrong with it.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem: Mapping[str, Any] = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        said = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{place} cannot be used: {f'{key}: ' if key else ''}{said}") from error
