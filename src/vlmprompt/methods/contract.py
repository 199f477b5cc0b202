"""The contract between a method and everything that runs it: trainer, evaluators, scores.

Hooks that an author may override are in `hooks`; this file has what the toolkit itself does with a method.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.class_text import require_template
from vlmprompt.methods.given import require_output
from vlmprompt.methods.hooks import Hooks

if TYPE_CHECKING:
    from vlmprompt.backbones.backbone import Backbone
    from vlmprompt.methods.frozen import FrozenMethod
    from vlmprompt.methods.output import MethodOutput
    from vlmprompt.registry import Entry


class PromptMethod(Hooks):
    """A prompt-learning method over one backbone and one list of class names.

    A subclass creates its parameters in `create` and overrides the hooks of `Hooks` that it needs. Everything in
    `state_dict()` is the method's trained state, so make frozen constants non-persistent buffers; the backbone is not
    part of it. The optimiser trains the parameters with `requires_grad`.
    """

    # How the method is registered, for errors; None of one that `build_method` has not made.
    registration: Entry | None = None

    def __call__(self, images: Tensor | ImageFeatures, **options: Any) -> MethodOutput:
        """Classify images; calls `forward` and checks its result.

        Raises:
            PluginError: the method failed, or did not return logits (B,K).
        """
        with self.blamed():
            output = super().__call__(images, **options)
        return require_output(self, output, len(self.class_names), len(images))

    def on_views(self, views: Sequence[Tensor | ImageFeatures]) -> MethodOutput:
        """Classify the images of a training step, given in as many views as the method takes (`training_views`).

        Raises:
            PluginError: see `__call__`.
        """
        if self.training_views == 1:
            return self(views[0])
        with self.blamed():
            output = self.forward_views(views)
        return require_output(self, output, len(self.class_names), len(views[0]))

    def __repr__(self) -> str:
        learned = sum(p.numel() for p in self.trainable_parameters())
        return f"{type(self).__name__}({len(self.class_names)} classes, {learned:,} to learn, {self.backbone.spec})"

    @property
    def told(self) -> str:
        """The method as error messages name it: its name and the package that provides it."""
        return f"method {type(self).__name__}" if self.registration is None else self.registration.told

    def blamed(self, *, wide: bool = False) -> AbstractContextManager[None]:
        """Context in which hooks are called: errors raised inside name this method, see `blaming`."""
        return blaming(self.registration, wide=wide)

    @property
    def keyed_features(self) -> bool:
        """Whether `feature_key` covers what `image_extra` depends on; if not, the method's features are not stored."""
        kind = type(self)
        return kind.image_extra is Hooks.image_extra or kind.feature_key is not Hooks.feature_key

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that the optimiser trains."""
        return (p for p in self.parameters() if p.requires_grad)

    def teacher(self, spec: str, **options: Any) -> Backbone:
        """Further frozen towers to learn from, on this method's device and in its precision.

        They are loaded at the first call, once per process. If they are only needed in training, call this there (in
        `start_epoch`, `image_extra`, `forward_views` or the loss) and not in `create`, so that evaluation does not load
        them. The run's checkpoints hold their digest: with other weights, the run cannot be resumed and its teacher
        cannot be used. The method itself must handle a teacher of another joint width, see `require_width`.

        Args:
            spec: in the form of `--backbone`.
            options: further arguments of `load_backbone`: quick_gelu, random_weights, image_size.

        Raises:
            VlmPromptError: see `load_backbone`; the message names the teacher.
            InputError: its weights are not those that the run was trained with.
        """
        return self.teachers.get(spec, options)

    def add_parameter(self, name: str, initial: Tensor) -> None:
        """Register a parameter whose stable name is also a method's (`visual_prompts`).

        `nn.Module` refuses such names because it makes parameters attributes. Read it with `parameter`.
        """
        self._parameters[name] = nn.Parameter(initial)

    def parameter(self, name: str) -> nn.Parameter:
        """A parameter by its stable name."""
        parameter = self._parameters[name]
        assert parameter is not None
        return parameter

    def trainable_state(self) -> dict[str, Tensor]:
        """Everything learned, by stable name: parameters and persistent buffers."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state that `trainable_state` returned.

        Raises:
            InputError: names or shapes differ, or there are values that are not finite numbers; the message names the
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
                empty = not own[name].numel()  # a fit decides its size
                raise InputError(
                    f"tensor {name!r} has shape {tuple(tensor.shape)} in the checkpoint, {tuple(own[name].shape)} here",
                    hint=f"load_trainable_state of {type(self).__name__} must give {name!r} its size"
                    if empty
                    else None,
                )
        self.load_state_dict(dict(state))

    def rng_state(self) -> Tensor:
        """State of the method's generator (uint8), for checkpoints."""
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor) -> None:
        """Restore a state that `rng_state` returned."""
        self.generator.set_state(state.cpu())

    def copied(self, *, deep: bool = False) -> Self:
        """A copy of this method with the same towers; tensors registered later with one do not appear in the other.

        Args:
            deep: copy parameters, buffers and modules, so that their values can change separately; otherwise they are
                shared.
        """
        other = copy.copy(self)
        registered = dict(self._parameters), dict(self._buffers), dict(self._modules)
        if deep:  # all three at once, so that a tensor that is registered twice stays one
            registered = copy.deepcopy(registered, {id(self.backbone): self.backbone})
        other._parameters, other._buffers, other._modules = registered
        return other

    @outliving()
    def with_classes(
        self,
        names: Sequence[str],
        *,
        template: str | None = None,
        descriptions: Sequence[Sequence[str]] | None = None,
    ) -> Self:
        """The same learned prompts for other classes, for inference (parameters are shared).

        Args:
            template: the data set's own, for methods that put names into a template; default: this method's.
            descriptions: texts on each class, in the order of `names`.

        Raises:
            CapabilityError: the method cannot serve classes that it was not trained on.
            UsageError: the names are a single text instead of a list.
            InputError: the template does not contain exactly one {}.
        """
        if template is not None:
            require_template(template)
        if "new_classes" not in self.capabilities:
            raise CapabilityError(
                f"method {type(self).__name__} cannot serve other classes than those it was trained on"
            )
        other = self.copied()  # whose buffers may depend on the classes, and are then set anew
        other.descriptions = descriptions
        if template is not None:
            other.template = template
        with self.blamed():
            other.classes = other._set_classes(names)
            other.renew(template)
        return other

    def with_local(self) -> Self:
        """The same method, also reading local features, for scores that match patches with classes (GL-MCM).

        These are the features of GL-MCM's code, `value_block` in joint space. A method that already reads local
        features is returned unchanged.
        """
        needs = self.image_needs()
        if needs.local is not None or not self.backbone.vision.n_local:
            return self
        other = self.copied()
        other.image_needs = partial(replace, needs, local="value_block", space="joint")  # type: ignore[method-assign]
        return other

    def frozen_text(self) -> TextFeatures | None:
        """Text features (P,K,d) for evaluation, computed once; None if the text depends on the image."""
        if "image_conditioned" in self.capabilities:
            return None
        with outliving(), torch.no_grad():
            return self.encode_text().detach()

    def frozen(self) -> FrozenMethod:
        """A copy of this method in its present state, for inference only, with its text encoded once for all images.

        A method that adapts at test time still adapts: all images that the copy is given are one stream, see
        `FrozenMethod`.
        """
        from vlmprompt.methods.frozen import FrozenMethod

        return FrozenMethod.of(self)
