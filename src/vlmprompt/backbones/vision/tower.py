"""What an image tower is to the engines: two protocols, and what the toolkit needs of an engine.

A tower of tokens (a transformer) takes prompt tokens; a tower of maps (a convolutional one) does not. To add a kind
of tower is to write a class that meets one of the two, and to recognise it where models are taken apart.

Shapes: B images, N patches or positions, S special tokens before the patches, L prompt tokens, T = S+N+L tokens,
c width of tokens (d_v), C raw width of local features, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, LocalKind, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError

# The next step where local features are needed and there are none.
INSTEAD_OF_LOCAL = (
    "use a ViT, a ResNet of CLIP or a ConvNeXt, or a method that reads the global feature alone, such as coop"
)


class VisionEngine(Protocol):
    """What the toolkit needs of an image tower.

    Attributes:
        kind: what the tower is, for people.
        grid: rows and columns of local positions.
        width: c, that of prompt tokens.
        local_width: C, that of "pre_proj" local features.
        layers: transformer layers that take prompts (0 for a tower of maps).
        joint_dim: d.
        n_local: N local positions; 0 where there are no local features.
        has_prompts: whether prompt tokens can be put in.
        takes_deltas: whether its blocks can be changed, see `TowerDeltas`.
        projection: (C,d), takes "pre_proj" local features to joint space; None where that is one space.
    """

    kind: str
    grid: tuple[int, int]
    width: int
    layers: int
    joint_dim: int
    n_local: int
    has_prompts: bool
    takes_deltas: bool

    @property
    def local_width(self) -> int: ...
    @property
    def projection(self) -> Tensor | None: ...

    def require(self, needs: ImageNeeds) -> None:
        """Refuse local features that the tower cannot give.

        Raises:
            CapabilityError: it has none, or none of this kind.
        """

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of (B,3,H,W) images, under the caller's gradient mode."""

    def encode_each(self, images: Tensor, needs: Sequence[ImageNeeds]) -> list[ImageFeatures]:
        """What `encode` gives for each of these needs, to the bit, of one pass without prompts."""

    def shares_global(self, needs: ImageNeeds) -> bool:
        """Whether the pooled feature beside these local ones is, to the bit, that without any."""

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """Where in (B,3,H,W) images something is seen: (B,N), not negative, not normalised.

        ReLU of the last feature map's channels, summed with the means of their gradients over positions as
        weights (Grad-CAM, Selvaraju et al., ICCV 2017). That map is the last one that reaches the pooled feature at
        patches: the last block's input where the pool reads special tokens alone, the last block's output where it
        reads the patches too, and the last stage's output in a tower of maps.

        Args:
            target: (B,d) pooled features -> (B,) what is looked for.
        """

    def class_map(
        self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts, target: Callable[[ImageFeatures], Tensor]
    ) -> Tensor:
        """Which places of (B,3,H,W) images speak for something that is made of their features: (B,N), not negative.

        Where the pool reads special tokens alone, these have attended to the patches in the last block, and with A
        that block's attention (H heads) and y the target the map is mean_h ReLU(A * dy/dA) in their row: what the
        last block adds to the relevance of Chefer et al., "Generic Attention-model Explainability for Interpreting
        Bi-Modal and Encoder-Decoder Transformers" (ICCV 2021, eq. 5). Elsewhere it is Grad-CAM of the last map, with
        the same weights as in `grad_cam`.

        Args:
            needs: the features that the target reads.
            prompts: see `encode`.
            target: features as `encode` gives them -> (B,) what is looked for, such as the logits of a class.

        Raises:
            CapabilityError: the tower has no places, or the target does not depend on how they are pooled.
        """


def no_gradient(kind: str) -> CapabilityError:
    """The error where nothing that is pooled reaches a target."""
    return CapabilityError(f"the logits do not depend on what the {kind} pools, so no gradient leads to its places")


def require_places(engine: VisionEngine) -> None:
    """Refuse maps of places where there are none.

    Raises:
        CapabilityError: the tower has none.
    """
    if not engine.n_local:
        raise CapabilityError(
            f"this backbone's image tower is a {engine.kind}, which has no places that could be shown",
            hint="use a ViT, a ResNet of CLIP or a ConvNeXt",
        )


def require_prompt_outputs(engine: VisionEngine, needs: ImageNeeds, prompts: VisualPrompts) -> None:
    """Refuse outputs of prompts that do not reach the last block.

    Raises:
        CapabilityError: the tower takes no prompts.
        InputError: there are none, or they leave the tower before its end.
    """
    if not needs.prompt_outputs:
        return
    if not engine.has_prompts:
        raise CapabilityError(f"outputs of visual prompts are needed; this backbone's image tower is a {engine.kind}")
    if not prompts or (prompts.drop_after and max(prompts) < engine.layers - 1):
        why = "these are dropped before the last block" if prompts else "there are no prompts"
        raise InputError(f"outputs of visual prompts are needed, but {why}")


class ImageBlock(Protocol):
    """A residual attention block of an image tower. It knows the places of its tokens, where positions are its own."""

    def run(self, x_BTc: Tensor) -> Tensor:
        """The whole block: (B,T,c)."""

    def head(self, x_BTc: Tensor, n: int) -> Tensor:
        """The outputs of the first n tokens, which attend to all: (B,n,c)."""

    def alone(self, x_BNc: Tensor) -> Tensor:
        """The block with an attention matrix that is the identity, each token attending to itself: (B,N,c)."""

    def value_path(self, x_BNc: Tensor) -> Tensor:
        """Values through the output projection, without residual and MLP: (B,N,c)."""


class ValueAttentionBlock(ImageBlock, Protocol):
    """A block that can also attend by its values alone, as "value_attention" local features need it."""

    def attention(self, x_BTc: Tensor) -> Tensor:
        """The block's attention without its residual: (B,T,c)."""

    def value_attention(self, x_BTc: Tensor) -> Tensor:
        """The same with softmax(v v^T / sqrt(h)) as its matrix, v the values of each head: (B,T,c)."""


class PromptedBlock(ImageBlock, Protocol):
    """A block that can also attend to prompts of which nobody reads what they become."""

    def beside(self, x_BTc: Tensor, prompts_Lc: Tensor) -> Tensor:
        """The outputs of tokens that attend to each other and to prompts (L,c), which all images share: (B,T,c)."""


class ImageTower(Protocol):
    """What every frozen image tower says of itself.

    Attributes:
        kind: what it is, for people, such as "ViT, class token" or "ModifiedResNet, attention pool".
        width: c of a `TokenTower`, C of a `MapTower`.
        joint_dim: d.
        grid: rows and columns of patches, or of the last map; (0, 0) where there are no local features.
        projection: (C,d), the last linear map, where local features can be had before it; None: where not.
    """

    @property
    def kind(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def joint_dim(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def projection(self) -> Tensor | None: ...


class TokenTower(ImageTower, Protocol):
    """A frozen transformer over patches.

    Attributes:
        n_special: S, class tokens and registers in front of the patches.
        pooled: how many of the first tokens the pool reads of the last block; None: all, the patches included.
        blocks: the transformer.
    """

    @property
    def n_special(self) -> int: ...
    @property
    def pooled(self) -> int | None: ...
    @property
    def blocks(self) -> Sequence[ImageBlock]: ...

    def embed(self, images: Tensor) -> Tensor:
        """Special tokens and patches with their positions: (B,3,H,W) -> (B,S+N,c)."""

    def enter(self, x_BTc: Tensor) -> Tensor:
        """What stands between the tokens and the first block, a norm or nothing: (B,T,c)."""

    def pool(self, x_BTc: Tensor) -> Tensor:
        """The pooled feature before `projection`: (B,C), of all S+N tokens or of the first `pooled` ones."""

    def local(self, x_BNc: Tensor, kind: LocalKind) -> Tensor:
        """Each patch alone through what stands between the last block and `projection`: (B,N,C)."""


class MapTower(ImageTower, Protocol):
    """A frozen tower that ends in a map of positions and a pool over them."""

    def map(self, images: Tensor) -> Tensor:
        """The last map: (B,3,H,W) -> (B,N,c)."""

    def read(self, map_BNc: Tensor, local: LocalKind | None) -> tuple[Tensor, Tensor | None]:
        """Pooled (B,C) and, if asked for, local features (B,N,C), both before `projection`."""
