"""What a method's author may override of how it learns; every hook has a default.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import InputError
from vlmprompt.methods.groups import ParameterGroup
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.weighted import cross_entropy


class Learning:
    """The part of the contract that training asks for."""

    # What is learned is only made after the last epoch (an average over all): a run has no earlier state to keep.
    made_at_end: ClassVar[bool] = False
    # Views of each training image that `fit` is given: 1, the deterministic one, or that many random training views.
    fit_views: int = 1
    # Hyper-parameters that `search_on_val` chooses; none: no validation image is looked at for it.
    searched: Sequence[str] = ()
    # Set by whoever trains: off under `--no-val-search`, so that `fit` can tell it from a lack of validation images.
    val_search: bool = True
    # Views of each image in a step of the loop, augmented independently; with more than one see `forward_views`.
    training_views: int = 1
    # Each step comes with as many images of the data set's training split whose labels are withheld, see
    # `unlabelled_loss`. Said by the class, since it decides what is read of the data.
    reads_unlabelled: ClassVar[bool] = False

    def forward_views(self, views: Sequence[Tensor | ImageFeatures]) -> MethodOutput:
        """Classify images in the loop of a method with several `training_views`.

        Args:
            views: of the same B images, each as `forward` takes them.

        Returns:
            What `forward` gives for B images, with what the loss needs of the further views in `aux`; default: of the
            first view.
        """
        output: MethodOutput = self(views[0])  # type: ignore[operator]
        return output

    def unlabelled_loss(self, output: MethodOutput) -> Losses:
        """Loss of as many images without labels, added to that of a step; a part named `unlabelled` of the log.

        Args:
            output: of these images, in as many views as the others.
        """
        raise InputError(f"method {type(self).__name__} has no loss of images without labels")

    def encode_descriptions(self) -> None:
        """Encode the descriptions that the loss alone compares with, so that they are at hand (default: none)."""

    def loss_draws(self, n_images: int) -> Mapping[str, Tensor]:
        """Random draws of the loss for each image of a batch, first dimension B (default none).

        A method of the capability `row_split` makes them here and nowhere else: of several processes each draws for the
        whole batch, and gives `loss` those of its own images.
        """
        return {}

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

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        """Parameters that are optimised otherwise than the others, by name (default: none).

        A name is that of a parameter, or of a module for all of its parameters; see `ParameterGroup`.
        """
        return {}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch (0-based)."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after each epoch (0-based)."""

    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        """Learn from all training features at once, in place of the loop (`closed_form`) or before it (`fit_first`).

        It runs once, in train mode, and may draw from `generator`; what it leaves in `state_dict()` is the trained
        state, or that which the loop starts from. A run that is resumed does not fit again.

        Args:
            features: of `fit_views` views of n training images, view after view: row v*n + i is view v of image i.
            labels: (fit_views*n,) indices into `class_names`.
            val: features and labels of the validation images in their one deterministic view; None where there are
                none, or `--no-val-search` withholds them.

        Returns:
            What is worth recording of the fit (chosen regularisation, its source), as JSON can hold it.
        """
        raise InputError(f"method {type(self).__name__} is not fitted in closed form")

    def search_on_val(self, features: ImageFeatures, labels: Tensor) -> Mapping[str, Any]:
        """Choose what `searched` names, on the validation images, once the fit or the loop has ended.

        Called in eval mode, without gradients, unless `--no-val-search` is given. What it chooses must show in
        `state_dict()`, and must not depend on what an earlier search chose: a run that is stopped in here and resumed
        searches again.

        Args:
            features: of the validation images in their one deterministic view.
            labels: indices into `class_names`.

        Returns:
            The chosen value of each name in `searched`, and what else is worth recording, such as the values that
            were `tried` and the accuracy of the chosen ones; as JSON can hold it.
        """
        raise InputError(f"method {type(self).__name__} searches nothing on validation images")
