"""The contract between a method and everything that runs it: trainer, evaluators, scores.

Shapes: B images, K classes, P prompts, N local positions, V context tokens, D text width, d joint width,
L visual prompt tokens, d_v image-tower width.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.types import (
    ClassTokens,
    ImageFeatures,
    ImageNeeds,
    Shaped,
    TextFeatures,
    TextPrompts,
    VisualPrompts,
    exact,
    unit,
)
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.methods.class_text import SEVERAL_NAMES, require_list, require_one_name
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.patch_maps import PatchMap, cosine_maps
from vlmprompt.methods.weighted import cross_entropy

if TYPE_CHECKING:
    from vlmprompt.backbones.backbone import Backbone
    from vlmprompt.methods.curves import Curves
    from vlmprompt.methods.foreign import ForeignState
    from vlmprompt.methods.frozen import FrozenMethod

CAPABILITIES = frozenset(
    {
        "new_classes",
        "feature_cache",
        "local",
        "image_conditioned",
        "class_shard",
        "closed_form",
        "training_free",
        SEVERAL_NAMES,
    }
)

# Where a method reads descriptions of its classes, see `PromptMethod.reads_descriptions`.
DescriptionUse = Literal["never", "training", "always"]

# Local cosines (images x positions x classes) that a streamed score holds at a time.
STREAM_VALUES = 2**22

# What a method may require of a backbone -> the words for it in errors.
REQUIREMENTS = {
    "visual_prompts": "an image tower that takes prompt tokens (a ViT)",
    "local_features": "local image features",
    "deep_text_prompts": "a text tower that takes prompt tokens in its layers (one of open_clip's own)",
}


@dataclass(frozen=True, repr=False)
class LocalView(Shaped):
    """Local image features against class features.

    Attributes:
        features_BNd: local features in joint space, L2-normalised.
        classes: (K,d) or (B,K,d); not necessarily of unit length (a mean over prompts is not renormalised).
    """

    features_BNd: Tensor
    classes: Tensor

    def cosines(self) -> Tensor:
        """All of (B,N,K)."""
        return self.features_BNd @ self.classes.transpose(-1, -2)

    def lmcm(self, temperature: float = 1.0, chunk: int | None = None) -> Tensor:
        """L-MCM of each image: the largest softmax(cosines/T) of any position and class (GL-MCM, Miyai et al.).

        Streamed: cosines of one chunk of classes exist at a time. Of a position with cosines c it is
        1 / sum_k exp((c_k - max c) / T), whose sum and maximum grow from chunk to chunk.

        Args:
            temperature: T, on raw cosines.
            chunk: classes at a time; None: as many as fit a fixed size.

        Returns:
            (B,), in the precision of the features.
        """
        n_images, n_positions, _ = self.features_BNd.shape
        part = chunk or max(1, STREAM_VALUES // (n_images * n_positions))
        peak_BN = exact(self.features_BNd.new_full((n_images, n_positions), float("-inf")))
        total_BN = torch.zeros_like(peak_BN)
        for classes in self.classes.split(part, dim=-2):
            c_BNC = exact(LocalView(self.features_BNd, classes).cosines()) / temperature
            new_BN = torch.maximum(peak_BN, c_BNC.amax(dim=-1))
            own_BN = (c_BNC - new_BN[..., None]).exp().sum(dim=-1)
            total_BN, peak_BN = total_BN * (peak_BN - new_BN).exp() + own_BN, new_BN
        return total_BN.reciprocal().amax(dim=1).to(self.features_BNd.dtype)


@dataclass(frozen=True, repr=False)
class MethodOutput(Shaped):
    """What a method says of a batch.

    Attributes:
        logits: (B,K), already scaled.
        scale: the logit scale s that they were multiplied by.
        global_cosines: (B,K) raw cosines of the global branch, or None where the method has none.
        local: local features against classes, or None.
        aux: the method's own tensors (per-prompt cosines, plans, what its loss needs).
        cosine_logits: logits / scale are similarities like cosines, which scores may take where there are no
            global cosines; off for a regression.
    """

    logits: Tensor
    scale: float
    global_cosines: Tensor | None = None
    local: LocalView | None = None
    aux: Mapping[str, Tensor] = field(default_factory=dict)
    cosine_logits: bool = True

    @property
    def local_cosines(self) -> Tensor | None:
        """(B,N,K), materialised on request; None for a method without local features."""
        return None if self.local is None else self.local.cosines()


@dataclass(frozen=True, repr=False)
class Losses(Shaped):
    """The loss to minimise and its named parts (scalars, for logging)."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class PromptMethod(nn.Module):
    """A prompt-learning method over one backbone and one list of class names.

    A subclass creates its parameters in `create` and overrides what it needs; the defaults are a
    cosine classifier on the global feature with cross-entropy. Everything in `state_dict()` is the
    method's trained state (so a frozen constant is a non-persistent buffer); the backbone is not part of
    it. Parameters with `requires_grad` are what the optimiser gets.

    Args:
        backbone: frozen towers.
        class_names: the label space, in label order.
        config: the method's validated options.
        descriptions: phrases for each class, aligned with `class_names`, or None.
        generator: source of initial values and of random draws; a fixed seed gives fixed bytes.
    """

    # What a method can do, of CAPABILITIES; an instance may lack some (a class-specific context).
    capabilities: frozenset[str] = frozenset({"new_classes"})
    # What the backbone must offer, of REQUIREMENTS; `build_method` refuses by name where it does not.
    requires: ClassVar[frozenset[str]] = frozenset()
    # Names of buffers that only training fills (a running average): None before, and perhaps after it; part of
    # the trained state while they hold something.
    passing: ClassVar[frozenset[str]] = frozenset()
    # What is learned is only made after the last epoch (an average over all): a run has no earlier state to keep.
    made_at_end: ClassVar[bool] = False

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
        # Held outside the module registry: the backbone must not enter parameters(), state_dict() or .to().
        object.__setattr__(self, "_backbone", backbone)
        self.config = config
        self.descriptions = descriptions
        self.generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.class_names: tuple[str, ...] = ()
        self.classes = self._set_classes(class_names)
        for name in sorted(self.passing):
            self.register_buffer(name, None)
        self.create()

    def create(self) -> None:
        """Create parameters and buffers; all that the constructor was given is there by then."""

    def __repr__(self) -> str:
        learned = sum(p.numel() for p in self.trainable_parameters())
        return f"{type(self).__name__}({len(self.class_names)} classes, {learned:,} to learn, {self.backbone.spec})"

    # -- what it needs ------------------------------------------------------------------------------
    @classmethod
    def reads_descriptions(cls, config: MethodConfig) -> DescriptionUse:
        """Whether a method with these options reads descriptions of its classes; whoever builds it supplies them.

        Returns:
            "training": in its loss alone, so that other classes (`with_classes`) need none; "always": in its
            text features, so that every label space needs its own.
        """
        return "never"

    @property
    def backbone(self) -> Backbone:
        """The frozen towers."""
        backbone: Backbone = self.__dict__["_backbone"]
        return backbone

    @property
    def scale(self) -> float:
        """The frozen logit scale s = exp(logit_scale)."""
        return self.backbone.scale

    def image_needs(self) -> ImageNeeds:
        """What this method reads from the image tower."""
        return ImageNeeds()

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        """Per-image tensors of the method's own that the feature cache stores beside the features."""
        return {}

    def feature_key(self) -> str:
        """What `image_extra` depends on, for the key of cached features; empty where it gives nothing."""
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
        """The text prompts as far as no image changes them, for a look at what was learned; None without text."""
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
            images: (B,3,H,W) as the backbone's transform gives them, or features from the cache.
            text: text features computed before (`frozen_text`), to reuse over batches.
            draws: recorded random draws, in place of fresh ones.

        Returns:
            Logits over `class_names` and what scores and loss need.
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
        """Run the text tower over all classes.

        Raises:
            CapabilityError: the method has no text prompts, or they depend on an image and none is given.
        """
        prompts = self.text_prompts(global_Bd, draws=draws)
        if prompts is None:
            raise CapabilityError(f"method {type(self).__name__} has no text prompts")
        return TextFeatures(self.backbone.text.encode(prompts, self.classes))

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        """Scaled cosines of the global feature, averaged over prompts; in fp32 whatever the towers run in.

        `aux` holds the unit features behind them, for losses: `image_Bd` and `text_PKd` ((B,P,K,d) where the
        text depends on the image).
        Local features, where there are some, are put beside the mean of the prompts' text features.
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

    def frozen_text(self) -> TextFeatures | None:
        """Text features for evaluation, computed once; None where text depends on the image."""
        if "image_conditioned" in self.capabilities:
            return None
        with outliving(), torch.no_grad():
            return self.encode_text().detach()

    def frozen(self) -> FrozenMethod:
        """This method as it is now, for inference alone, its text encoded once for any number of images."""
        from vlmprompt.methods.frozen import FrozenMethod

        return FrozenMethod.of(self)

    def with_local(self) -> Self:
        """The same method reading local features as well, for scores that match patches with classes (GL-MCM).

        They are those of GL-MCM's code, `value_block` in joint space. A method that reads local features of its
        own stays as it is.
        """
        needs = self.image_needs()
        if needs.local is not None or not self.backbone.vision.n_local:
            return self
        other = copy.copy(self)
        other.__dict__["image_needs"] = lambda: replace(needs, local="value_block", space="joint")
        return other

    def patch_maps(self, output: MethodOutput, labels_B: Tensor) -> Sequence[PatchMap]:
        """What this method has seen where in images, for a class of each, to be shown; by default local cosines.

        Maps of how logits came about stand first: which patches were chosen, a transport plan. What a gradient tells
        is found elsewhere, for every method alike.

        Args:
            output: of these images, made with the option `keep_plan=True`.
            labels_B: indices into `class_names`.
        """
        return cosine_maps(output, labels_B)

    # -- training -----------------------------------------------------------------------------------
    def encode_descriptions(self) -> None:
        """Encode the descriptions that the loss alone compares with, so that they are at hand (default: none)."""

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        """Loss of a batch; default cross-entropy.

        Args:
            labels: (B,) indices into `class_names`.
            draws: recorded random draws of the loss, in place of fresh ones.
            weights: (B,) of the images in the cross-entropy; given for `class_weights` alone, and a method whose own
                loss lacks the parameter is refused then.
        """
        ce = cross_entropy(output.logits, labels, weights)
        return Losses(ce, {"ce": ce.detach()})

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch (0-based)."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after each epoch (0-based)."""

    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        """Closed-form methods: fit on all training features at once, in place of the loop.

        Returns:
            What is worth recording of the fit (chosen regularisation, its source).
        """
        raise InputError(f"method {type(self).__name__} is not fitted in closed form")

    def diagnostics(self) -> Mapping[str, float]:
        """Numbers worth logging each epoch (Bloom: its gates); default none."""
        return {}

    def observe_gradients(self) -> Mapping[str, Tensor]:
        """Scalars of a step's gradients that are worth logging (Bloom: norms of its gates' and prompts'); default none.

        Called once a step, behind the backward pass and before the update, without a graph. They stand in the step's
        line of the log, and their means over the epoch's steps in the epoch's.
        """
        return {}

    @classmethod
    def curves(cls, names: Collection[str]) -> Sequence[Curves]:
        """Pictures of what the log says of an epoch, over the epochs (Bloom: its gates); default none.

        Args:
            names: what the epochs' lines of a log hold, such as `diagnostics.prompt_cosine`.
        """
        return ()

    # -- classes and state --------------------------------------------------------------------------
    @outliving()
    def with_classes(
        self,
        names: Sequence[str],
        *,
        template: str | None = None,
        descriptions: Sequence[Sequence[str]] | None = None,
    ) -> Self:
        """The same learned prompts over another label space, for inference (parameters are shared).

        Args:
            template: the data set's own, for methods that write names into one.
            descriptions: texts on each class, in the order of `names`.

        Raises:
            CapabilityError: the method cannot serve classes that it was not trained on.
            UsageError: the names are one text.
        """
        if "new_classes" not in self.capabilities:
            raise CapabilityError(
                f"method {type(self).__name__} cannot serve other classes than those it was trained on"
            )
        other = copy.copy(self)
        other._buffers = dict(self._buffers)  # what is frozen may depend on the classes, and is then set anew
        other.descriptions = descriptions
        other.classes = other._set_classes(names)
        other.renew(template)
        return other

    def renew(self, template: str | None) -> None:
        """Set anew what depends on the classes beside their tokens; `with_classes` calls it on its result.

        Args:
            template: see `with_classes`.
        """

    def trainable_state(self) -> dict[str, Tensor]:
        """Everything learned, by stable name: parameters and persistent buffers."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trainable_state` gave.

        Raises:
            InputError: names or shapes differ, or there are values that are no finite numbers; the message names the
                first.
        """
        for name in self.passing:
            tensor = state.get(name)
            setattr(self, name, None if tensor is None else tensor.detach().clone().to(self.backbone.device))
        own = self.state_dict()
        for name in sorted(own.keys() ^ state.keys()):
            where = "lacks" if name in own else "holds an unknown"
            raise InputError(f"the checkpoint {where} tensor {name!r} for method {type(self).__name__}")
        for name, tensor in state.items():
            if not isinstance(tensor, Tensor) or not tensor.isfinite().all():
                what = "holds NaN or infinite values" if isinstance(tensor, Tensor) else f"is a {type(tensor).__name__}"
                raise InputError(f"tensor {name!r} of the checkpoint {what}")
            if own[name].shape != tensor.shape:
                raise InputError(
                    f"tensor {name!r} has shape {tuple(tensor.shape)} in the checkpoint, {tuple(own[name].shape)} here"
                )
        self.load_state_dict(dict(state))

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """The trained state in a checkpoint of the method's published code, and the options that its shapes decide.

        Args:
            content: tensors and plain values, as that code's file holds them.

        Raises:
            CapabilityError: no such files are known for the method (default).
            InputError: the content is not what that code writes.
        """
        raise CapabilityError(f"method {cls.__name__} reads no checkpoints of other codes")

    def rng_state(self) -> Tensor:
        """State of the method's generator (uint8), for checkpoints."""
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor) -> None:
        """Restore what `rng_state` gave."""
        self.generator.set_state(state.cpu())

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """What the optimiser gets."""
        return (p for p in self.parameters() if p.requires_grad)

    def add_parameter(self, name: str, initial: Tensor) -> None:
        """Register a parameter whose stable name is also a method's (`visual_prompts`).

        `nn.Module` refuses such names, as it makes parameters attributes; `parameter` reads this one.
        """
        self._parameters[name] = nn.Parameter(initial)

    def parameter(self, name: str) -> nn.Parameter:
        """A parameter by its stable name."""
        parameter = self._parameters[name]
        assert parameter is not None
        return parameter

    def _set_classes(self, names: Sequence[str]) -> ClassTokens:
        require_list(names)
        require_one_name(type(self).__name__, self.capabilities, names)
        self.class_names = tuple(names)
        return self.class_tokens(names)
