"""The configuration of a run. Every field has its unit, default and source in its description."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vlmprompt.config.aliases import AliasTable
from vlmprompt.config.limits import (
    MOST_EPOCHS,
    MOST_IMAGES,
    MOST_SEED,
    MOST_SHOTS,
    MOST_SIDE,
    MOST_STEPS,
    MOST_VIEWS,
    MOST_WORKERS,
)
from vlmprompt.config.templates import Templates
from vlmprompt.errors import UsageError, did_you_mean

Setting = Literal["few-shot", "base-to-new", "cross-dataset"]
Protocol = Literal["coop", "gallop-code"]
ClassPosition = Literal["end", "middle", "front"]
FeatureDtype = Literal["fp32", "fp16", "bf16"]


def _plain(text: str) -> str:
    """Text that our files can hold and the system takes as a name."""
    if "\0" in text or text.encode(errors="replace").decode() != text:
        raise ValueError("should have no zero byte and be UTF-8")
    return text


def _sides(size: Any) -> int | tuple[int, int]:
    """Of 384, "384", "256x128" or [256, 128]."""
    parts = size.split("x") if isinstance(size, str) else size if isinstance(size, list | tuple) else [size]
    sides = [int(part) if re.fullmatch(r"\d{1,9}", str(part)) else 0 for part in parts]
    if len(sides) not in (1, 2) or not all(1 <= side <= MOST_SIDE for side in sides):
        raise ValueError(f"should be 1 to {MOST_SIDE} pixels such as 384, or height and width such as 256x128")
    return sides[0] if sides[0] == sides[-1] else (sides[0], sides[1])


Name = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Weight = Annotated[float, Field(gt=0)]
Epoch = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_sides)]


class TrainConfig(BaseModel):
    """How a run is optimised. Defaults are CoOp's (Zhou et al. 2022, official code) unless a method overrides."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "sgd",
        description="optimiser: sgd, adam (weight decay as an L2 term of the loss), adamw (apart from it); CoOp code: "
        "SGD",
    )
    lr: float = Field(0.002, gt=0, description="peak learning rate; CoOp code: 0.002")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum; Dassl: 0.9")
    eps: float | None = Field(None, gt=0, description="added to the denominator of adam and adamw; none: torch's, 1e-8")
    weight_decay: float = Field(5e-4, ge=0, description="on all trainables; Dassl: 5e-4")
    epochs: int = Field(50, ge=1, le=MOST_EPOCHS, description="passes over the training shots; CoOp code: 50 at 1 shot")
    max_steps: int | None = Field(
        None,
        ge=0,
        le=MOST_STEPS,
        description="cap on optimiser steps; the schedule then spans the epochs that these steps need",
    )
    batch_size: int = Field(32, ge=1, le=MOST_IMAGES, description="images a step; CoOp code: 32")
    eval_batch_size: int = Field(100, ge=1, le=MOST_IMAGES, description="images a step in evaluation; Dassl: 100")
    warmup_epochs: int = Field(1, ge=0, le=MOST_EPOCHS, description="epochs at the constant warm-up rate; CoOp code: 1")
    warmup_lr: float = Field(1e-5, gt=0, description="learning rate in warm-up; CoOp code: 1e-5")
    schedule: Literal["cosine", "linear", "step", "constant"] = Field(
        "cosine",
        description="learning rate after warm-up: cosine or linear from lr towards min_lr over the epochs that are "
        "run, step (see milestones), constant; CoOp code: cosine",
    )
    schedule_unit: Literal["epoch", "step"] = Field(
        "epoch", description="how often a cosine or linear rate is set anew; CoOp code: each epoch"
    )
    min_lr: float = Field(0.0, ge=0, description="rate that cosine and linear fall towards; CoOp code: 0")
    milestones: tuple[Epoch, ...] = Field(
        (), description="with schedule step: the rate is multiplied by gamma after each of so many epochs of the run"
    )
    gamma: float = Field(0.1, gt=0, lt=1, description="with schedule step: factor at each milestone; torch: 0.1")
    class_weights: Literal["balanced"] | Annotated[dict[Name, Weight], Field(min_length=1)] | None = Field(
        None,
        description="weight of an image in the loss by its class: balanced, n / (C * n_c) for n_c of n images in C "
        "classes, as scikit-learn; or a table such as {cat = 2.0}, 1 for others, scaled to a mean of 1 over all images",
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description="images of an epoch: shuffled, each once; balanced, as many, each class equally often (small "
        "classes repeat theirs, large ones take turns)",
    )
    validate_every: int | None = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="epochs between measurements of the accuracy on the validation images (also after the last epoch); "
        "none: never, as in the papers' protocols",
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="state that the run ends with: last, or best by validation (of equal ones the earliest); "
        "CoOp code: last",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="stop after so many measurements in a row that were no better than the best before; none: never",
    )
    val_search: bool = Field(
        True,
        description="let the method choose hyper-parameters of its own on the validation images, if it does so; false: "
        "it gets none, for protocols without them. When training ends is chosen by keep and patience",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="arithmetic of the towers; prompts stay fp32"
    )
    views: Literal["auto"] | Annotated[int, Field(ge=0, le=MOST_VIEWS)] = Field(
        0,
        description="0: fresh augmentation every epoch (the papers' protocol), nothing cached; "
        "1: one deterministic view, features cached; V > 1: V recorded random views, features cached; auto: the most "
        "of 16, 8, 4 and 1 that cost at most a quarter of the fresh ones, 1 without augmentation, otherwise 0",
    )
    augment: bool = Field(
        True, description="CLIP's random crop and flip in training when views is 0; false: the test transform"
    )
    checkpoint_every: int = Field(
        50,
        ge=1,
        le=MOST_STEPS,
        description="optimiser steps between checkpoints for --resume (one is always written at an epoch's end)",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.validate_every is None and (self.keep == "best" or self.patience is not None):
            asked = "keep = best" if self.keep == "best" else f"patience = {self.patience}"
            raise ValueError(f"{asked} needs measurements on validation images: give validate_every, such as 1")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule = step needs milestones, such as [30, 60]: epochs after which the rate falls")
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr = {self.min_lr:g} is higher than lr = {self.lr:g}, from which the rate falls to it"
            )
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"milestones = {list(self.milestones)} must rise: each epoch later than the one before")
        return self


class RunConfig(BaseModel):
    """Everything that determines a training run's result."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    method: Name = Field(description="name of a registered method")
    data: Name = Field("doodles", description="data set spec, such as folder:photos; doodles is built in")
    backbone: Name = Field(
        "doodle-clip",
        description="backbone spec, such as ViT-B-16-quickgelu/openai; doodle-clip is built in and knows doodles alone",
    )
    random_weights: Seed | None = Field(None, description="seed of random tower weights, in place of pretrained ones")
    quick_gelu: bool | None = Field(
        None, description="activation of a local checkpoint whose architecture has both variants"
    )
    image_size: ImageSize | None = Field(
        None,
        description="side of the image tower's input in pixels, or height and width such as 256x128; positions are "
        "interpolated; none: what the tower was built for",
    )
    shots: int | None = Field(16, ge=1, le=MOST_SHOTS, description="training images per class; none: all of them")
    seed: Seed = Field(1, description="seed of the few-shot sample, of initial values and of the data order")
    setting: Setting = Field("few-shot", description="which classes are trained on, and the schedule")
    protocol: Protocol = Field(
        "coop",
        description="data conventions: coop, or gallop-code (class-proportional samples, class names with their "
        "underscores, FGVC-Aircraft's trainval part)",
    )
    preset: Name | None = Field(None, description="named set of method options")
    allow_fewer: bool = Field(False, description="accept classes with fewer images than shots")
    accept_split: bool = Field(False, description="accept a split of a benchmark that is not the published one")
    allow_overlap: bool = Field(False, description="accept images that are in more than one split")
    allow_outside: bool = Field(
        False, description="accept absolute paths in a list that lead out of its folder and of the root"
    )
    class_names: Name | None = Field(
        None, description="file with one class name a line, in label order, in place of folder names"
    )
    aliases: AliasTable = Field(
        default_factory=dict,
        description="other names for classes, old -> new, here and in other data that the run is measured on: a "
        "table, or a file with a line 'old = new' for each",
    )
    templates: Templates | None = Field(
        None,
        description="hand-written texts around class names, averaged, for methods that take some: a list, a file with "
        "one text with {} a line, clip7 or clip80 (CLIP's for ImageNet); none: those of the method or the data set",
    )
    exif: bool = Field(
        True,
        description="read your own pictures as a viewer shows them: turned by their EXIF orientation, transparency "
        "over white; false: as they are stored, as benchmarks are always read",
    )
    split_seed: Seed = Field(1, description="seed of the train/val/test split of a folder that has none")
    descriptions: Name | None = Field(
        None,
        description="file of class descriptions, for methods that read some; none: the one found for the data set "
        "in ./prompts_cache, the user's data directory, or the package",
    )
    allow_missing: bool = Field(False, description="accept classes without a description")
    train: TrainConfig = Field(default_factory=TrainConfig)
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own options")


class Runtime(BaseModel):
    """Where and how a command runs; nothing but `feature_dtype` may change a result on one kind of device."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = Field("auto", description="auto (cuda, else mps, else cpu), cpu, cuda, cuda:1, mps")
    workers: int | None = Field(
        None,
        ge=0,
        le=MOST_WORKERS,
        description="image-decoding processes; 0 = decode in the main process; none: 2 on a CPU, beside a GPU as its "
        "share of the cores allows, 8 at most",
    )
    root: Path | None = Field(None, description="parent folder of the data sets' folders (VLMPROMPT_ROOT)")
    runs_dir: Path = Field(Path("runs"), description="parent folder of run folders")
    feature_cache: Literal["off"] | Path | None = Field(
        None,
        description="folder of the store of image features; none: in the user's cache folder; off: features are kept "
        "in memory only",
    )
    feature_limit: float = Field(
        10, ge=0, description="GB that the store of features may hold; what does not fit is computed each time"
    )
    feature_dtype: FeatureDtype = Field(
        "fp32",
        description="type that features of frozen image towers are rounded to and stored in: fp32 (as computed), fp16 "
        "or bf16 (half the size, other last digits)",
    )
    tracker: Annotated[tuple[str, ...], BeforeValidator(lambda names: () if names is None else names)] = Field(
        (), description="trackers that are told of runs beside log.jsonl and log.csv, such as tensorboard"
    )

    def __init__(self, **values: Any) -> None:
        """See the fields.

        Raises:
            UsageError: there is no such field, or a value is not allowed.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refused(type(self), error) from None


def _refused(model: type[Runtime], error: ValidationError) -> UsageError:
    """The first wrong argument in one line."""
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0])
    field = model.model_fields.get(name)
    if field is None:
        return UsageError(f"{model.__name__} has no argument {name!r}", hint=did_you_mean(name, model.model_fields))
    reason = problem["msg"].removeprefix("Input ")
    return UsageError(
        f"argument {name} = {problem['input']!r} of {model.__name__} is not allowed: it {reason}",
        hint=f"{name}: {field.description}",
    )
