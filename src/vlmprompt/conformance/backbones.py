"""The checks of backbone loaders.

Shapes: B images, K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.types import ImageNeeds, TextPrompts, VisualPrompts
from vlmprompt.conformance import material
from vlmprompt.conformance.check import Check, checks, require, skip

SAME = 2e-5  # of a cosine
SENTENCE = "a photo of a {}."


@dataclass
class BackboneCase:
    """A backbone as it is asked for.

    Attributes:
        loading: arguments of `load_backbone`.
    """

    spec: str
    loading: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Backbone:
        """Load it anew."""
        return load_backbone(self.spec, **self.loading)

    @cached_property
    def backbone(self) -> Backbone:
        """Loaded once."""
        return self.load()

    @cached_property
    def images(self) -> Tensor:
        """(B,3,H,W)."""
        return material.images(self.backbone.preprocess.sides).to(self.backbone.device)

    def text(self, names: tuple[str, ...] = material.NAMES) -> Tensor:
        """(K,d) of classes in a sentence."""
        return F.normalize(self.backbone.text.encode_template(SENTENCE, names), dim=-1)


def _apart(a: Tensor, b: Tensor) -> float:
    return (F.normalize(a.float(), dim=-1) - F.normalize(b.float(), dim=-1)).abs().max().item()


def loads_the_same_twice(case: BackboneCase) -> None:
    """The same spec gives the same weights, and nobody's random state is used."""
    before = torch.random.get_rng_state()
    again = case.load()
    require(
        again.digest == case.backbone.digest, "loaded twice it has other weights", "seed random weights in fork_rng"
    )
    same = torch.equal(before, torch.random.get_rng_state())
    require(same, "torch's global random state was used", "draw within torch.random.fork_rng")


def is_frozen(case: BackboneCase) -> None:
    """Weights take no gradients, modules are in eval mode."""
    model = case.backbone.model
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    require(not trained, f"{', '.join(trained[:3])} would take gradients", "model.requires_grad_(False)")
    moody = [name or "the model" for name, module in model.named_modules() if module.training]
    require(not moody, f"{', '.join(moody[:3])} is in training mode", "model.eval()")


def has_a_scale(case: BackboneCase) -> None:
    """The logit scale is a positive number."""
    scale = case.backbone.scale
    require(0 < scale < float("inf"), f"scale = {scale}", "give exp(logit_scale)")


def transforms_images(case: BackboneCase) -> None:
    """Its transform makes of any picture a tensor of its sides."""
    for train in (False, True):
        sides = tuple(case.backbone.transform(train=train)(material.draw(0, 0)).shape)
        expected = (3, *case.backbone.preprocess.sides)
        require(sides == expected, f"a picture becomes {sides}, not {expected}", "give the right PreprocessConfig")


def both_towers_share_a_space(case: BackboneCase) -> None:
    """Features of images and of texts are finite and of one width."""
    image_Bd = case.backbone.encode_image(case.images).global_Bd
    text_Kd = case.text()
    fits = (
        image_Bd.shape == (len(case.images), case.backbone.text.joint_dim) and text_Kd.shape[-1] == image_Bd.shape[-1]
    )
    require(fits, f"images are {tuple(image_Bd.shape)}, texts {tuple(text_Kd.shape)}", "project both into one space")
    finite = bool(image_Bd.isfinite().all() and text_Kd.isfinite().all())
    require(finite, "features are not finite", "look at the weights")
    require(_differ(image_Bd) and _differ(text_Kd), "all inputs have one feature", "run the towers over the inputs")


def _differ(features: Tensor) -> bool:
    return bool((features - features[:1]).abs().max() > 0)


def batches_do_not_matter(case: BackboneCase) -> None:
    """Features of an image or text do not depend on what is encoded beside it."""
    images = case.backbone.encode_image(case.images).global_Bd
    single = torch.cat([case.backbone.encode_image(image[None]).global_Bd for image in case.images])
    require(_apart(images, single) <= SAME, "images in a batch have other features than alone", "use eval mode")
    texts = case.text()
    alone = torch.cat([case.text((name,)) for name in material.NAMES])
    step = "hide what stands beside a text and behind its end"
    require(_apart(texts, alone) <= SAME, "texts in a batch have other features than alone", step)


def prompts_are_as_words(case: BackboneCase) -> None:
    """A context of the embeddings of words gives the features of these words, and takes gradients."""
    engine = case.backbone.text
    ctx_PVD = engine.embed_words("a photo of a")[None].clone().requires_grad_()
    found_Kd = engine.encode(TextPrompts(ctx_PVD), engine.class_tokens(material.NAMES))[0]
    apart = _apart(found_Kd.detach(), case.text())
    require(apart <= 5 * SAME, f"a context of words is {apart:.2g} from the words", "embed without positions")
    found_Kd.sum().backward()
    reached = ctx_PVD.grad is not None and bool((ctx_PVD.grad != 0).any())
    require(reached, "no gradient reaches the context", "run the text tower with a graph")


def local_features_fit(case: BackboneCase) -> None:
    """Local features have the number and width that the image tower says."""
    vision = case.backbone.vision
    if not vision.n_local:
        skip("it has no local features")
    local = case.backbone.encode_image(case.images, ImageNeeds(local="tokens")).local_BNc
    expected = (len(case.images), vision.n_local, case.backbone.text.joint_dim)
    found = None if local is None else tuple(local.shape)
    require(found == expected, f"local features are {found}, not {expected}", "let grid say the positions")


def visual_prompts_act(case: BackboneCase) -> None:
    """Prompt tokens change the image's feature and take gradients."""
    if not case.backbone.is_vit:
        skip("its image tower takes no prompt tokens")
    width = case.backbone.vision.width
    prompts = torch.randn(2, width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    needs = ImageNeeds(grad=True)
    found = case.backbone.encode_image(case.images, needs, prompts=VisualPrompts({0: prompts})).global_Bd
    plain = case.backbone.encode_image(case.images).global_Bd
    require(_apart(found.detach(), plain) > 0, "prompt tokens change nothing", "let the blocks see them")
    found.sum().backward()
    reached = prompts.grad is not None and bool((prompts.grad != 0).any())
    require(reached, "no gradient reaches prompt tokens", "run the image tower with a graph")


BACKBONE_CHECKS: tuple[Check[BackboneCase], ...] = checks(
    loads_the_same_twice,
    is_frozen,
    has_a_scale,
    transforms_images,
    both_towers_share_a_space,
    batches_do_not_matter,
    prompts_are_as_words,
    local_features_fit,
    visual_prompts_act,
)
