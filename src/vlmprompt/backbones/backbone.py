"""A backbone: frozen text and image towers, their preprocessing, and what identifies them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vlmprompt.backbones.kept_digest import weights_digest
from vlmprompt.backbones.outliving import make_ordinary, outliving
from vlmprompt.backbones.precision import Precision
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, VisualPrompts
from vlmprompt.backbones.vision.tower import VisionEngine
from vlmprompt.data.preprocess import PreprocessConfig, build_transform
from vlmprompt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Identity:
    """How to get the same backbone again.

    Attributes:
        spec: what `load_backbone` was given.
        random_weights: seed of the towers' random weights, or None.
        quick_gelu: the activation asked for explicitly, or None where the name settles it.
        file: absolute path of the file or folder of weights that the spec names; None where it names none.
        stand_in: the tokenizer that numbers stand in for, beside random weights; None where texts are read by it.
        image_size: height and width of input images that were asked for; None: the towers' own.
        precision: arithmetic of the towers.
    """

    spec: str
    random_weights: int | None = None
    quick_gelu: bool | None = None
    file: str | None = None
    stand_in: str | None = None
    image_size: tuple[int, int] | None = None
    precision: Precision = "fp32"


class Backbone:
    """Frozen CLIP towers behind the two engines.

    Attributes:
        text: the text engine.
        vision: the image engine.
        scale: s = exp(logit_scale), frozen.
        preprocess: sizes and statistics of the image transform.
    """

    def __init__(
        self,
        model: nn.Module,
        text: TextEngine,
        vision: VisionEngine,
        *,
        identity: Identity,
        preprocess: PreprocessConfig,
        scale: float,
    ) -> None:
        self._model = model
        self.text = text
        self.vision = vision
        self.identity = identity
        self.preprocess = preprocess
        self.scale = scale

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        tokenizer: Any,
        *,
        preprocess: PreprocessConfig | None = None,
        name: str = "custom",
        precision: Precision = "fp32",
        identity: Identity | None = None,
        known_ids: frozenset[int] | None = None,
    ) -> Backbone:
        """Wrap an in-memory open_clip model; it is frozen and put in eval mode.

        Args:
            model: `open_clip.model.CLIP`, `CustomTextCLIP` or `CoCa`, with towers that the engines know.
            tokenizer: open_clip's tokenizer for it (an object with `encode`, or a callable on a list of texts).
            preprocess: transform settings; default: the model's own.
            identity: how to load the model again; default: the name alone.
            known_ids: tokens that the text tower was trained on; None: as good as all.

        Raises:
            CapabilityError: the model's towers are of a kind that the engines cannot run.
        """
        from vlmprompt.backbones.openclip.towers import take_apart

        identity = replace(identity or Identity(name), precision=precision)
        make_ordinary(model)
        with outliving():
            towers = take_apart(model, tokenizer, name=identity.spec, precision=precision, known_ids=known_ids)
        return cls(
            model,
            towers.text,
            towers.vision,
            identity=identity,
            preprocess=preprocess or towers.preprocess,
            scale=towers.scale,
        )

    def __repr__(self) -> str:
        weights = "" if self.random_weights is None else f", random_weights={self.random_weights}"
        return f"Backbone({self.spec!r}{weights}, {self.device})"

    @property
    def model(self) -> nn.Module:
        """The frozen model whose parts the engines run."""
        return self._model

    @property
    def spec(self) -> str:
        """What `load_backbone` was given."""
        return self.identity.spec

    @property
    def name(self) -> str:
        """Short name for tables and folders: the spec without path separators."""
        return self.spec.removeprefix("hf-hub:").replace("/", "-").strip("-")

    @property
    def random_weights(self) -> int | None:
        """Seed of random tower weights, or None."""
        return self.identity.random_weights

    @property
    def quick_gelu(self) -> bool | None:
        """The activation that was asked for explicitly."""
        return self.identity.quick_gelu

    @cached_property
    def is_quick(self) -> bool:
        """Whether a layer computes QuickGELU, asked for or not; no weight tells."""
        return any(type(module).__name__.startswith("QuickGELU") for module in self._model.modules())

    @property
    def is_vit(self) -> bool:
        """Whether the image tower is a ViT (prompt tokens are possible)."""
        return self.vision.has_prompts

    @property
    def device(self) -> torch.device:
        """Where the towers live."""
        return self.text.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the towers' weights."""
        return next(self._model.parameters()).dtype

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and bytes of all weights; that of a file's is kept, see `kept_digest`."""
        return weights_digest(self._model.state_dict(), self.identity.file)

    def encode_image(
        self, images: Tensor, needs: ImageNeeds | None = None, *, prompts: VisualPrompts | None = None
    ) -> ImageFeatures:
        """Image features as a method needs them.

        Args:
            images: (B,3,H,W) from `transform`, of any floating dtype.
            needs: default: the global feature without gradient.
            prompts: tokens for the image tower's layers.

        Returns:
            Global (B,d) and, if needed, local features; a graph only where `needs.grad`.

        Raises:
            InputError: the images are no such batch, or of a size that the tower does not take.
        """
        needs = ImageNeeds() if needs is None else needs
        with self._passing(images, grad=needs.grad) as batch_B3HW:
            return self.vision.encode(batch_B3HW, needs, VisualPrompts() if prompts is None else prompts)

    def encode_image_each(self, images: Tensor, needs: Sequence[ImageNeeds]) -> list[ImageFeatures]:
        """What `encode_image` gives for each of several needs, to the bit, of one pass through the tower.

        Args:
            images: (B,3,H,W).
            needs: none of them with gradients.

        Raises:
            InputError: see `encode_image`.
        """
        if len(needs) == 1:
            return [self.encode_image(images, needs[0])]
        with self._passing(images, grad=False) as batch_B3HW:
            return self.vision.encode_each(batch_B3HW, needs)

    @contextmanager
    def _passing(self, images: Tensor, *, grad: bool) -> Iterator[Tensor]:
        """Images on their way through the tower; one that does not take their size says so."""
        mode: AbstractContextManager[Any] = nullcontext() if grad else torch.no_grad()
        images = self._batch(images)
        try:
            with mode:
                yield images
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Some towers take any size, so one is not refused before it was tried.
            given, own = images.shape[-2:], self.preprocess.sides
            if given == own:
                raise
            raise InputError(
                f"images of {given[0]} x {given[1]} pixels do not go through the image tower, which is built for "
                f"{own[0]} x {own[1]}",
                hint="make them by the backbone's transform",
            ) from error

    def _batch(self, images: Tensor) -> Tensor:
        """Images in the dtype of the weights; autocast takes it from there."""
        if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(
                f"images are {str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}, and must be "
                "floats of shape (B,3,H,W)",
                hint="make them by the backbone's transform, and stack them",
            )
        return images.to(self.dtype)

    def transform(self, *, train: bool) -> Callable[[Image], Tensor]:
        """The image transform: CLIP's random crop and flip for training, resize and centre crop otherwise."""
        return build_transform(self.preprocess, train=train)
