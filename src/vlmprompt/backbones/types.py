"""What goes into the engine and what comes out of it.

Shapes: B images, K classes, P prompts, V context tokens, S prompt slots of a layer, R inserted
tokens, L visual prompt tokens, N local positions, D text width, d joint width, C raw width of local features (before
or after the projection), d_v image-tower width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.deltas import TowerDeltas
from vlmprompt.backbones.shaped import Shaped, shape_of
from vlmprompt.config.models import ClassPosition as ClassPosition

LocalKind = Literal["value_block", "tokens", "value_only", "value_attention"]
SpaceKind = Literal["pre_proj", "joint"]
ContextScope = Literal["shared", "class", "image"]
# The tensor of image features that all readers read; see `ImageFeatures.tensors`.
GLOBAL = "global"


def at_least_float(values: Tensor) -> Tensor:
    """In fp32 or better, whatever the towers run in."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def exact(values: Tensor) -> Tensor:
    """In float64, or in float32 where the device has nothing better (MPS)."""
    return values.float() if values.device.type == "mps" else values.double()


def unit(features: Tensor) -> Tensor:
    """L2-normalised over the last dimension, in fp32 or better whatever the towers run in."""
    return F.normalize(at_least_float(features), dim=-1)


@dataclass(frozen=True)
class ImageNeeds:
    """What a method reads from the image tower.

    Attributes:
        global_: the pooled feature.
        local: which local features, if any (four definitions, see `vision/tokens.py`).
        space: "joint" = after the tower's projection; "pre_proj" = after `ln_post`, before it.
            Applies to local features; the global feature is always in joint space.
        grad: gradients must flow through the image tower, which rules a feature cache out.
        prompt_outputs: the last block's outputs of the visual prompts.
    """

    global_: bool = True
    local: LocalKind | None = None
    space: SpaceKind = "joint"
    grad: bool = False
    prompt_outputs: bool = False


@dataclass(frozen=True, repr=False)
class ImageFeatures(Shaped):
    """Raw outputs of the image tower for B images, NOT normalised; the feature cache stores these.

    Attributes:
        global_Bd: pooled feature in joint space.
        local_BNc: local features at N positions, or None.
        extra: a method's own tensors for each image; their first dimension is B.
        prompts_BLC: outputs of the last block at the L visual prompt tokens, or None. Each has passed separately
            through the layers between that block and the projection (`ln_post`, or the value path of a pool).
    """

    global_Bd: Tensor
    local_BNc: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    prompts_BLC: Tensor | None = None

    def __len__(self) -> int:
        return self.global_Bd.shape[0]

    def __getitem__(self, index: Tensor | slice) -> ImageFeatures:
        return self._map(lambda t: t[index])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ImageFeatures:
        """The same features on another device, and, if given, in another floating-point type."""
        return self._map(lambda t: t.to(device, dtype if t.is_floating_point() else None, non_blocking=True))

    @property
    def unit_Bd(self) -> Tensor:
        """The global feature, L2-normalised, in fp32 or better."""
        return unit(self.global_Bd)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name (`global`, `local`, `prompts`, `extra.<name>`), for storing."""
        named = {GLOBAL: self.global_Bd}
        if self.local_BNc is not None:
            named["local"] = self.local_BNc
        if self.prompts_BLC is not None:
            named["prompts"] = self.prompts_BLC
        return named | {f"extra.{name}": value for name, value in self.extra.items()}

    @classmethod
    def from_tensors(cls, named: Mapping[str, Tensor]) -> ImageFeatures:
        """Inverse of `tensors`."""
        extra = {name.removeprefix("extra."): t for name, t in named.items() if name.startswith("extra.")}
        return cls(named[GLOBAL], named.get("local"), extra, named.get("prompts"))

    @classmethod
    def cat(cls, parts: Iterable[ImageFeatures]) -> ImageFeatures:
        """Concatenate along the image dimension."""
        named = [part.tensors() for part in parts]
        return cls.from_tensors({name: torch.cat([p[name] for p in named]) for name in named[0]})

    def _map(self, change: object) -> ImageFeatures:
        assert callable(change)
        return ImageFeatures.from_tensors({name: change(t) for name, t in self.tensors().items()})


class VisualPrompts(Mapping[int, Tensor]):
    """Prompt tokens of the image tower: layer (0 = first block) -> (L, d_v).

    They are appended after the patch tokens at the first layer named, without positional embedding, and
    overwrite those last L tokens at every further layer named; in between and afterwards they flow.

    Args:
        layers: layer -> (L, d_v); consecutive layers, all of one L.
        after_ln_pre: layer-0 prompts enter after `ln_pre` rather than before it.
        drop_after: remove the tokens after the last layer named instead of letting them flow on.
        deltas: what is changed inside the tower's blocks, see `TowerDeltas`.
    """

    def __init__(
        self,
        layers: Mapping[int, Tensor] | None = None,
        *,
        after_ln_pre: bool = False,
        drop_after: bool = False,
        deltas: TowerDeltas | None = None,
    ) -> None:
        self._layers = dict(layers or {})
        self.after_ln_pre = after_ln_pre
        self.drop_after = drop_after
        self.deltas = deltas

    def __getitem__(self, layer: int) -> Tensor:
        return self._layers[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        deltas = "" if self.deltas is None else f", deltas={self.deltas!r}"
        return f"VisualPrompts({shape_of(self._layers)}{deltas})"


@dataclass(frozen=True, repr=False)
class ClassTokens:
    """Class names as the tokenizer sees them, made by `TextEngine.class_tokens`.

    Attributes:
        names: the names as given.
        name_ids: token ids of each bare name.
        tail_ids: token ids from behind the name up to and including the end-of-text token,
            such as those of ". <eot>"; `name_ids + tail_ids` is what follows the context when the class
            stands at the end.
    """

    names: tuple[str, ...]
    name_ids: tuple[tuple[int, ...], ...]
    tail_ids: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"ClassTokens({len(self)} classes)"


@dataclass(frozen=True, repr=False)
class TextPrompts(Shaped):
    """Learnable text prompts, not yet combined with class names.

    The token sequence is `[SOT, ctx, words, name, tail]` for class position "end", `[SOT, ctx[:V//2], name,
    ctx[V//2:], tail]` for "middle", and `[SOT, name, ctx, tail]` for "front". The tail (usually a full stop) and the
    end-of-text token belong to `ClassTokens`. If a tower has no start token (SOT), the sequence begins after it.

    Attributes:
        ctx: (P,V,D) for scope "shared", (K,P,V,D) for "class", (B,P,V,D) for "image"; V may be 0.
        scope: the meaning of the leading dimension of `ctx`.
        deep: layer (>= 1) -> (P,S,D), or (K,P,S,D) if every class has its own. In that layer's input it overwrites the
            first S tokens after the start token; S is at most the number of context tokens and words before the name.
        inserted: layer -> (P,R,D), or (K,P,R,D) if every class has its own: R additional tokens. They are inserted
            between the start token and the text in the input of the first layer given, and overwritten in the input of
            each further layer given; all other layers pass them on like any token. They take no position and do not
            count in the length of a text: the tokens behind them keep their positions.
        words: fixed words between the context and the class name (position "end" only).
        position: the place of the class name, for all prompts or for each of the P.
        deltas: changes inside the tower's blocks, see `TowerDeltas`.
    """

    ctx: Tensor
    scope: ContextScope = "shared"
    deep: Mapping[int, Tensor] = field(default_factory=dict)
    words: str = ""
    position: ClassPosition | tuple[ClassPosition, ...] = "end"
    deltas: TowerDeltas | None = None
    inserted: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class TextFeatures(Shaped):
    """Text features as encoded, NOT normalised: (P,K,d), or (B,P,K,d) where the text depends on the image."""

    features_PKd: Tensor

    @property
    def unit_PKd(self) -> Tensor:
        """The features, L2-normalised over d, in fp32 or better."""
        return unit(self.features_PKd)

    def detach(self) -> TextFeatures:
        """The same features without a graph."""
        return replace(self, features_PKd=self.features_PKd.detach())
