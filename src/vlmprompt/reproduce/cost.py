"""What a recipe computes, by formula: floating-point operations from the sizes of towers, prompts and data.

A block of width C costs 24 C^2 a token and pass for its linear maps and 4 T C for attention to T tokens; the
backward pass to prompts costs as much as the forward pass, as the towers' weights have no gradients. The text of a
class costs its own tokens only: what stands before them is computed once a prompt, as the text engine does it.
Counted are the towers. Not counted: decoding images, optimal transport (plot, dual_pt), layers of a method's own, texts
that a method tunes on each test image.
It comes out high: on doodle-clip, with its short class names, 25 to 65 % above what `train --dry-run` counts of a step.

Shapes: C width of a tower, T tokens, D width of the text tower, K classes, P prompts, V tokens of each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import architecture_of
from vlmprompt.backbones.openclip.miniature import miniature
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.config.models import RunConfig
from vlmprompt.data import ood_sets
from vlmprompt.data.classes import base_new_labels
from vlmprompt.data.load import load_outliers
from vlmprompt.data.records import Dataset
from vlmprompt.errors import CapabilityError, InputError, VlmPromptError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.teachers import standing_in
from vlmprompt.reproduce.configuration import configuration
from vlmprompt.reproduce.missing import BENCHMARK_SUITE, benchmark_of, companions
from vlmprompt.reproduce.recipe import GridSpec
from vlmprompt.reproduce.run import sweep_grid
from vlmprompt.training.schedule import Plan
from vlmprompt.training.setup import LOOPLESS
from vlmprompt.training.views import passes, why_not, worthwhile

# What a class adds to a text: its name, a full stop, the end-of-text token.
CLASS_TOKENS = 6
# Of a text's last block only keys and values are computed for every token: 4 of its 24 C^2.
LAST_BLOCK = 20 / 24
# An assumption, not a measurement: about a sixth of what an A100 can do at best in half precision.
GPU_FLOPS = 50e12
N_PROBED = 4  # classes of the method that is built to be asked


@dataclass(frozen=True)
class Towers:
    """FLOPs of the towers' forward passes.

    Attributes:
        image: of one image.
        text_token: of one token of a text.
    """

    image: float
    text_token: float

    @classmethod
    def of(cls, architecture: Mapping[str, Any]) -> Towers:
        """From open_clip's description of an architecture.

        Raises:
            CapabilityError: towers that it does not describe.
        """
        vision, text = architecture["vision_cfg"], architecture["text_cfg"]
        if "layers" not in vision or "layers" not in text:
            raise CapabilityError("the cost of towers of other packages (timm, transformers) is not known by formula")
        image = _resnet(vision, architecture["embed_dim"]) if isinstance(vision["layers"], list) else _vit(vision)
        return cls(image, (text["layers"] - LAST_BLOCK) * 24.0 * text["width"] ** 2)


@dataclass(frozen=True)
class Prompting:
    """What a method asks of the towers.

    Attributes:
        prompts: P of a step; 0 where no text is learned, as it is then encoded once.
        tokens: V, with fixed words.
        per_image: texts are encoded anew for each image.
        through_image: gradients run through the image tower.
        fit_views: views of each training image that are read once for a fit; 0 without one.
        trains: it has a training loop.
        views: of each test image.
        caches: it can train on features computed once.
    """

    prompts: int
    tokens: int
    per_image: bool
    through_image: bool
    fit_views: int
    trains: bool
    views: int = 1
    caches: bool = False

    def text(self, towers: Towers, n_classes: int) -> float:
        """FLOPs of all classes' texts, forward."""
        return self.prompts * (self.tokens + CLASS_TOKENS * n_classes) * towers.text_token


class Estimator:
    """FLOPs of grids; what several runs have in common is worked out once.

    Args:
        datasets: those that are there, by spec; of absent benchmarks the published sizes are taken.
    """

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = datasets
        self._miniatures: dict[str, Backbone] = {}
        self._prompting: dict[tuple[str, str, str], Prompting] = {}

    def flops(self, spec: GridSpec, seeds: Sequence[int]) -> float | None:
        """Of all runs of a grid, trained and measured; None where towers, data or a method do not say enough."""
        runs = (configuration(spec, flags).run for group in sweep_grid(spec, seeds).groups() for flags in group)
        try:
            return sum(self._run(run, spec.suites) for run in runs)
        except VlmPromptError:
            return None

    def _run(self, config: RunConfig, suites: Sequence[str]) -> float:
        towers = Towers.of(architecture_of(config.backbone))
        prompting = self._asked(config)
        n_classes, n_train, n_test = sizes(config.data, self._datasets.get(config.data))
        if config.setting == "base-to-new":
            n_classes = len(base_new_labels(n_classes)[0])
        n_images = min(n_train, n_classes * (config.shots or n_train))
        text = prompting.text(towers, n_classes)
        tested = n_test + self._beside(config.data, suites)
        testing = tested * (prompting.views * towers.image + (text if prompting.per_image else 0))
        return _training(config, prompting, towers, n_images, text) + testing

    def _asked(self, config: RunConfig) -> Prompting:
        """What the method asks for, from one built over narrow towers and a handful of classes."""
        key = (config.method, config.backbone, repr(sorted(config.options.items())))
        if key not in self._prompting:
            if config.backbone not in self._miniatures:
                self._miniatures[config.backbone] = miniature(architecture_of(config.backbone), config.backbone)
            self._prompting[key] = prompting_of(config, self._miniatures[config.backbone])
        return self._prompting[key]

    def _beside(self, data: str, suites: Sequence[str]) -> int:
        """Images of the sets that suites measure on beside the data set's own test split."""
        specs = {spec for suite in suites for spec in companions(data, self._datasets.get(data), suite)}
        published = [suite.removeprefix(BENCHMARK_SUITE) for suite in suites if suite.startswith(BENCHMARK_SUITE)]
        listed = sum(one.images for name in published for one in ood_sets.benchmark(name).sets)
        return listed + sum(map(_n_images, specs))


def prompting_of(config: RunConfig, backbone: Backbone) -> Prompting:
    """What a method asks of towers like these.

    Raises:
        VlmPromptError: see `build_method`.
    """
    names = [f"class {i}" for i in range(N_PROBED)]
    with standing_in(backbone):
        method = build_method(config.method, backbone, names, config.options, descriptions=[["a part"]] * N_PROBED)
    text = method.train().text_prompts(torch.zeros(1, backbone.text.joint_dim), draws=method.sample_draws())
    learned = text is not None and any(part.requires_grad for part in _tensors(text))
    prompts, tokens = (0, 0)
    if text is not None and learned:
        prompts, tokens = text.ctx.shape[-3], text.ctx.shape[-2] + len(text.words.split())
    return Prompting(
        prompts=prompts,
        tokens=tokens,
        per_image="image_conditioned" in method.capabilities,
        through_image=method.image_needs().grad,
        fit_views=method.fit_views if {"closed_form", "fit_first"} & method.capabilities else 0,
        trains=not LOOPLESS & method.capabilities,
        views=method.test_views,
        caches=why_not(method) is None,
    )


def _tensors(text: TextPrompts) -> list[Tensor]:
    """What a text is made of that a method may learn."""
    return [text.ctx, *text.deep.values(), *([] if text.deltas is None else text.deltas.tensors())]


def sizes(data: str, dataset: Dataset | None) -> tuple[int, int, int]:
    """Classes, training images, test images.

    Raises:
        InputError: nothing is known of a data set that is not there.
    """
    facts = benchmark_of(data)
    if facts is not None:
        return facts.classes, facts.images.get("train", 0), facts.images["test"]
    if dataset is None:
        raise InputError(f"nothing is known of the size of {data}")
    counts = {name: len(records) for name, records in dataset.splits.items()}
    return len(dataset.class_names), counts.get("train", 0), counts.get("test", 0)


def machine_rate(size: int = 512, seconds: float = 0.3) -> float:
    """FLOP/s of this machine's processor in products of fp32 matrices, measured now."""
    matrix = torch.full((size, size), 0.5)
    torch.mm(matrix, matrix)
    start, products = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or not products:
        torch.mm(matrix, matrix)
        products += 1
    return products * 2 * size**3 / elapsed


def _training(config: RunConfig, prompting: Prompting, towers: Towers, n_images: int, text: float) -> float:
    """FLOPs of training, backward passes included."""
    fitted = prompting.fit_views * n_images * towers.image
    if not prompting.trains:
        return fitted
    plan = Plan.of(config.train, n_images)
    images = min(config.train.batch_size, n_images)
    texts = plan.steps * 2 * text * (images if prompting.per_image else 1)
    views = config.train.views
    if views == "auto":
        fresh = passes(config.train, plan, n_images)
        views = worthwhile(fresh, drawn=1, augmented=config.train.augment) if prompting.caches else 0
    if views:
        own = 0 if views == prompting.fit_views else views
        return fitted + own * n_images * towers.image + texts
    return fitted + plan.steps * images * towers.image * (2 if prompting.through_image else 1) + texts


def _n_images(spec: str) -> int:
    """Images of a set that is only measured on."""
    if benchmark_of(spec) is not None:
        return sizes(spec, None)[2]
    return len(load_outliers(spec).split("test"))


def _vit(vision: Mapping[str, Any]) -> float:
    """FLOPs of an image through a ViT."""
    width, patch = vision["width"], vision["patch_size"]
    n_patches = (vision["image_size"] // patch) ** 2
    tokens = n_patches + 1
    blocks = vision["layers"] * (24.0 * tokens * width**2 + 4.0 * tokens**2 * width)
    return blocks + 2.0 * n_patches * 3 * patch**2 * width


def _resnet(vision: Mapping[str, Any], joint_dim: int) -> float:
    """FLOPs of an image through CLIP's ResNet: three convolutions, four stages of bottlenecks, attention pool."""
    width, side = vision["width"], vision["image_size"] // 2
    half = width // 2
    total = 2.0 * side**2 * 9 * (3 * half + half * half + half * width)
    side, channels = side // 2, width
    for stage, blocks in enumerate(vision["layers"]):
        inner = width * 2**stage
        for block in range(blocks):
            after = side // 2 if stage and not block else side
            total += 2.0 * side**2 * (channels * inner + 9 * inner * inner) + 2.0 * after**2 * 4 * inner * inner
            total += 0 if block else 2.0 * after**2 * channels * 4 * inner
            side, channels = after, 4 * inner
    tokens = side**2 + 1
    return total + 2.0 * tokens * channels * (3 * channels + joint_dim)
