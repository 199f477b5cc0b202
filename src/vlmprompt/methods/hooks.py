"""The hooks that a method's author may override, in the order in which they are called; each has a default.

Shapes: B images, K classes, P prompts, N local positions, V context tokens, D text width, d joint width,
L visual prompt tokens, d_v image-tower width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.types import (
    ClassTokens,
    ImageFeatures,
    ImageNeeds,
    TextFeatures,
    TextPrompts,
    VisualPrompts,
    unit,
)
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.class_text import require_list, require_one_name
from vlmprompt.methods.config import DEFAULT_TEMPLATE, MethodConfig
from vlmprompt.methods.learning import Learning
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.requirements import DescriptionUse
from vlmprompt.methods.showing import Showing
from vlmprompt.methods.streaming import Streaming
from vlmprompt.methods.teachers import Teachers

if TYPE_CHECKING:
    from vlmprompt.backbones.backbone import Backbone
    from vlmprompt.methods.foreign import ForeignState
    from vlmprompt.parallel.classes import ClassShares


class Hooks(Learning, Showing, Streaming, nn.Module):
    """The hooks of `PromptMethod`, which adds what the toolkit does with a method.

    A method reads images and texts (`image_needs`, `class_tokens`), has prompts (`text_prompts`, `visual_prompts`),
    turns features into logits (`classify`) and logits into a loss (`loss`; the other hooks of training are in
    `Learning`). The defaults are a cosine classifier on the global feature with cross-entropy. The hooks for logs and
    pictures are in `Showing`, those for adaptation at test time in `Streaming`.

    Args:
        backbone: frozen towers.
        class_names: the label space, in label order.
        config: the method's validated options.
        descriptions: phrases for each class, aligned with `class_names`, or None.
        generator: source of initial values and of random draws; a fixed seed gives fixed bytes.
    """

    # What a method can do, of CAPABILITIES; an instance may lack some (a class-specific context).
    capabilities: frozenset[str] = frozenset({"new_classes"})
    # What the backbone must offer, of REQUIREMENTS; `build_method` refuses by name where it does not. What only some
    # options need says `required`.
    requires: ClassVar[frozenset[str]] = frozenset()
    # Names of buffers that only training fills (a running average): None before, and perhaps after it; part of
    # the trained state while they hold something.
    passing: ClassVar[frozenset[str]] = frozenset()
    # Parameters that a few steps may leave without a gradient (what a random draw has not chosen), as names or patterns
    # such as "gate_*"; conformance checks expect one of every other. An instance may have others.
    without_gradient: frozenset[str] = frozenset()
    # The data set's text with one {} for the class name. `build_method` sets it before the constructor runs, so that
    # `create` finds it; `with_classes` sets that of the other data set before it calls `renew`.
    template: str = DEFAULT_TEMPLATE
    # Set by whoever trains in several processes, for a step: how they share the text of all classes.
    class_shares: ClassShares | None = None

    @outliving()
    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        config: MethodConfig,
        *,
        descriptions: Sequence[Sequence[str]] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        # No nn.Module, so an attribute like any other: not in parameters() or state_dict(), left alone by to().
        self.backbone = backbone
        self.config = config
        self.descriptions = descriptions
        self.generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.teachers = Teachers(backbone)
        self.class_names: tuple[str, ...] = ()
        self.classes = self._set_classes(class_names)
        for name in sorted(self.passing):
            self.register_buffer(name, None)
        self.create()

    def create(self) -> None:
        """Create parameters and buffers; the constructor has already stored its arguments."""

    # -- what it needs ------------------------------------------------------------------------------
    @classmethod
    def reads_descriptions(cls, config: MethodConfig) -> DescriptionUse:
        """Whether a method with these options reads descriptions of its classes, which it is then built with.

        Returns:
            "never"; "training": only in its loss, so that other classes (`with_classes`) need none; "always": in its
            text features, so that every list of classes needs its own.
        """
        return "never"

    @classmethod
    def required(cls, config: MethodConfig) -> frozenset[str]:
        """Features that the backbone must have for these options, from REQUIREMENTS; default `requires`."""
        return cls.requires

    @property
    def scale(self) -> float:
        """The frozen logit scale s = exp(logit_scale)."""
        return self.backbone.scale

    def image_needs(self) -> ImageNeeds:
        """The outputs of the image tower that this method reads."""
        return ImageNeeds()

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        """The method's own tensors for each image, (B,...), which the feature cache stores with the features."""
        return {}

    def feature_key(self) -> str:
        """What `image_extra` depends on, for the key of stored features; empty if `image_extra` returns nothing.

        If a class overrides `image_extra` but not `feature_key`, its features are not stored.
        """
        return ""

    def class_tokens(self, names: Sequence[str]) -> ClassTokens:
        """How this method writes class names: default "{name}.", underscores as spaces (CoOp)."""
        return self.backbone.text.class_tokens(names, keep_underscores=self.config.keep_underscores)

    # -- prompts ------------------------------------------------------------------------------------
    def sample_draws(self) -> Mapping[str, Tensor]:
        """Random draws of one training step that the prompts share (default none)."""
        return {}

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """Prompt tokens per layer of the image tower; empty for most methods."""
        return VisualPrompts()

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts | None:
        """The text prompts; None for a method without text.

        Args:
            global_Bd: raw global image feature, for methods whose text depends on the image.
        """
        return None

    def shared_text_prompts(self) -> TextPrompts | None:
        """The part of the text prompts that does not depend on the image, for inspection; None without text."""
        return self.text_prompts()

    # -- forward ------------------------------------------------------------------------------------
    def forward(
        self,
        images: Tensor | ImageFeatures,
        *,
        text: TextFeatures | None = None,
        draws: Mapping[str, Tensor] | None = None,
        **method_options: Any,
    ) -> MethodOutput:
        """Classify images.

        Args:
            images: (B,3,H,W) from the backbone's transform, or features from the cache.
            text: text features computed before (`frozen_text`), to reuse for several batches.
            draws: recorded random draws, instead of fresh ones.

        Returns:
            Logits (B,K) over `class_names`, and whatever else scores and loss need.
        """
        if draws is None:
            draws = self.sample_draws() if self.training else {}
        features = images if isinstance(images, ImageFeatures) else self.encode_images(images, draws=draws)
        if text is None:
            text = self.encode_text(features.global_Bd, draws=draws)
        return self.classify(features, text, **method_options)

    def encode_images(self, images: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> ImageFeatures:
        """Run the image tower with this method's visual prompts."""
        prompts = self.visual_prompts(draws=draws)
        return self.backbone.encode_image(images, self.image_needs(), prompts=prompts)

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """Run the text tower over all classes: (P,K,d), or (B,P,K,d) if the text depends on the image.

        Raises:
            CapabilityError: the method has no text prompts, or they depend on an image and none is given.
        """
        prompts = self.text_prompts(global_Bd, draws=draws)
        if prompts is None:
            raise CapabilityError(f"method {type(self).__name__} has no text prompts")
        if self.class_shares is not None:
            return TextFeatures(self.class_shares.encode(self.backbone.text, prompts, self.classes))
        return TextFeatures(self.backbone.text.encode(prompts, self.classes))

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Scaled cosines of the global feature, averaged over prompts; in fp32 whatever the towers run in.

        `aux` holds the normalised features behind them, for losses: `image_Bd` and `text_PKd` ((B,P,K,d) if the text
        depends on the image). Local features, if there are any, are compared with the mean of the prompts' text
        features.
        """
        per_image = text.features_PKd.dim() == 4
        rule = "bd,bpkd->bpk" if per_image else "bd,pkd->bpk"
        # Cosines differ in their third digit: an ambient autocast must not touch them.
        with torch.autocast(features.global_Bd.device.type, enabled=False):
            cosines_BPK = torch.einsum(rule, features.unit_Bd, text.unit_PKd)
            local = None if features.local_BNc is None else LocalView(unit(features.local_BNc), text.unit_PKd.mean(-3))
        cosines_BK = cosines_BPK.mean(dim=1)
        aux = {"image_Bd": features.unit_Bd, "text_PKd": text.unit_PKd}
        return MethodOutput(self.scale * cosines_BK, self.scale, cosines_BK, local, aux)

    # -- other classes, other checkpoints -----------------------------------------------------------
    def renew(self, template: str | None) -> None:
        """Update everything else that depends on the classes besides their tokens; `with_classes` calls this.

        Args:
            template: see `with_classes`.
        """

    @classmethod
    def upgrade(
        cls, options: Mapping[str, Any], tensors: Mapping[str, Tensor], version: str | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        """Translate a run made by an older version of the package (default: no change).

        Called whenever a run is read, before its options are checked and its tensors loaded; the arguments may already
        have been upgraded once. If a tensor object is returned unchanged, under any name, a resumed run keeps the
        optimiser's state for it.

        Args:
            options: as stored in run.json.
            tensors: the trained state by name, on the CPU; empty if the run was stopped before it had any.
            version: version of the package that trained the run; None if it was not recorded.

        Returns:
            Options and tensors by the names of this version.
        """
        return options, tensors

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """The trained state in a checkpoint of the method's published code, and the options that follow from shapes.

        Args:
            content: tensors and plain values in the structure of that code's file.

        Raises:
            CapabilityError: no such files are known for the method (default).
            InputError: the content was not written by that code.
        """
        raise CapabilityError(f"method {cls.__name__} reads no checkpoints of other codes")

    def _set_classes(self, names: Sequence[str]) -> ClassTokens:
        require_list(names)
        require_one_name(type(self).__name__, self.capabilities, names)
        self.class_names = tuple(names)
        return self.class_tokens(names)
