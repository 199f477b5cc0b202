"""Methods that adapt at test time: what they override, and how the toolkit leads images past them.

A stream is a sequence of test images in a fixed order, which a method with the capability `test_time` sees one by one.
What it keeps of them is its state; every stream begins without any.

Shapes: B images, V views of an image, K classes, N local positions, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.methods.given import require_output
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.shown import several

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmprompt.backbones.backbone import Backbone
    from vlmprompt.data.records import Dataset
    from vlmprompt.methods.contract import PromptMethod

TEST_TIME = "test_time"


class Streaming:
    """The part of the contract for methods that adapt to what they are tested on (capability `test_time`).

    `forward` stays what such a method says before it has seen any image; training and its validation use it.
    """

    backbone: Backbone
    # Views of each test image: the plain one, and so many less one of `view_transform`. A view is a pure function of a
    # seed, the image's id and the number of the view.
    test_views: int = 1

    def view_transform(self) -> Callable[[Image], Tensor]:
        """How further views of a test image are made: image -> (3,H,W); default: the training augmentation.

        Its random numbers come from torch's global generator alone, which is seeded for each view and restored.
        """
        return self.backbone.transform(train=True)

    def start_stream(self) -> None:
        """Forget all images: called before the first of each stream.

        The state is best kept in non-persistent buffers, which are copied with the method; it is no trained state.
        """

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        """Adapt to one test image, and classify it; called once an image, in the order of the stream, without a graph.

        Args:
            views: of the image, the plain one first: features of V rows where the method has `feature_cache`,
                else (V,3,H,W).

        Returns:
            Logits (1,K) and what scores need.
        """
        raise InputError(f"method {type(self).__name__} says that it adapts at test time, but has no observe(views)")

    def start_evaluation(self, dataset: Dataset) -> None:
        """Called once before the method is measured on a data set, on a copy that serves this data set alone.

        It is there for any method, such as to compute what depends on the data set; default nothing.

        Args:
            dataset: over the method's classes.
        """


def adapts(method: PromptMethod) -> bool:
    """Whether a method adapts at test time."""
    return TEST_TIME in method.capabilities


def require_fixed(method: PromptMethod, what: str) -> None:
    """Refuse a method that adapts where one fixed classifier is looked at.

    Args:
        what: needs it, in words.

    Raises:
        CapabilityError: its classifier depends on the images that it has seen.
    """
    if adapts(method):
        raise CapabilityError(
            f"{what} needs a fixed classifier, and {method.told} adapts its own to the test images",
            hint="classify with it: 'vlmprompt predict', or load_run(RUN).predict(images) in Python",
        )


def started(method: PromptMethod) -> PromptMethod:
    """A copy of a method at the start of a stream; what happens in there reaches no other."""
    own = method.copied(deep=True)
    own.generator = same_generator(method)
    with method.blamed():
        own.start_stream()
    return own


def same_generator(method: PromptMethod) -> torch.Generator:
    """A generator of its own in the state of the method's."""
    generator = torch.Generator(method.generator.device)
    generator.set_state(method.generator.get_state())
    return generator


def observed(method: PromptMethod, views: Tensor | ImageFeatures) -> MethodOutput:
    """What a method says of the next images of its stream, one after the other.

    Args:
        views: (B,3,H,W) of a method that sees one view of each image, else (B,V,3,H,W); or features of B*V rows, the
            views of an image together.

    Returns:
        Of B images: see `joined`.

    Raises:
        InputError: these are not V views of each image.
        PluginError: the method failed, or gives something else than logits (1,K).
    """
    views = _require_views(method, views)
    if isinstance(views, Tensor) and _reads_features(method):
        with method.blamed():
            views = _features(method, views)
    outputs = []
    for one in _of_each(views, method.test_views):
        with method.blamed():
            output = method.observe(one)
        outputs.append(require_output(method, output, len(method.class_names), 1))
    return joined(outputs)


def blank(method: PromptMethod, n: int) -> Tensor:
    """Black images as the method reads them frozen: (n,3,H,W), or (n,V,3,H,W) where it sees several views of each."""
    lead = (n, method.test_views) if adapts(method) and method.test_views > 1 else (n,)
    return torch.zeros(*lead, 3, *method.backbone.preprocess.sides, device=method.backbone.device)


def joined(outputs: Sequence[MethodOutput]) -> MethodOutput:
    """Several outputs as one of all their images, without a graph.

    Left out is `aux`, of which nobody knows what runs over images. Class features that differ from image to image are
    (B,K,d) in the local view.
    """
    first = outputs[0]
    cosines = [output.global_cosines for output in outputs if output.global_cosines is not None]
    views = [output.local for output in outputs if output.local is not None]
    return MethodOutput(
        torch.cat([output.logits.detach() for output in outputs]),
        first.scale,
        torch.cat(cosines).detach() if len(cosines) == len(outputs) else None,
        _joined_views(views) if len(views) == len(outputs) else None,
        cosine_logits=first.cosine_logits,
    )


def picked(output: MethodOutput, index_B: Tensor) -> MethodOutput:
    """Some images of an output that `joined` gave."""
    index_B = index_B.to(output.logits.device)
    cosines, local = output.global_cosines, output.local
    if local is not None:
        classes = local.classes if local.classes.dim() == 2 else local.classes[index_B]
        local = LocalView(local.features_BNd[index_B], classes)
    return MethodOutput(
        output.logits[index_B],
        output.scale,
        None if cosines is None else cosines[index_B],
        local,
        cosine_logits=output.cosine_logits,
    )


def _joined_views(views: Sequence[LocalView]) -> LocalView:
    features_BNd = torch.cat([view.features_BNd for view in views]).detach()
    first = views[0].classes
    if first.dim() == 2 and all(view.classes is first or torch.equal(view.classes, first) for view in views):
        return LocalView(features_BNd, first.detach())
    counts = [len(view.features_BNd) for view in views]
    each = [
        view.classes.expand(n, *view.classes.shape[-2:]) if view.classes.dim() == 2 else view.classes
        for view, n in zip(views, counts, strict=True)
    ]
    return LocalView(features_BNd, torch.cat(each).detach())


def _require_views(method: PromptMethod, views: Any) -> Tensor | ImageFeatures:
    """Views as they are to be walked through, an image's together."""
    n_views = method.test_views
    if isinstance(views, ImageFeatures):
        if len(views) % n_views:
            raise InputError(f"{method.told} sees {n_views} views of each image: {len(views)} rows are no whole images")
        return views
    dims = 4 if n_views == 1 else 5
    if views.dim() != dims or (n_views > 1 and views.shape[1] != n_views):
        wanted = "(B,3,H,W)" if n_views == 1 else f"(B,{n_views},3,H,W)"
        raise InputError(
            f"{method.told} sees {several(n_views, 'view', 'views')} of each image, {wanted}; these images are "
            f"{tuple(views.shape)}",
            hint="Classifier(method) and load_run(RUN).predict make the views of pictures",
        )
    return views if n_views == 1 else views.flatten(0, 1)


def _reads_features(method: PromptMethod) -> bool:
    return "feature_cache" in method.capabilities and not method.image_needs().grad


def _features(method: PromptMethod, images: Tensor) -> ImageFeatures:
    """As the feature cache would hold them."""
    raw = method.encode_images(images)
    return ImageFeatures(raw.global_Bd, raw.local_BNc, method.image_extra(images, None))


def _of_each(views: Tensor | ImageFeatures, n_views: int) -> Iterator[Tensor | ImageFeatures]:
    for start in range(0, len(views), n_views):
        yield views[start : start + n_views]
