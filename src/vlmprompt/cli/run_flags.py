"""The flags that say what is trained and where, written once for `train`, `config show` and `sweep`.

A command takes them as one first argument:

    @command_with(RunFlags)
    def train(flags: RunFlags, *, as_json: JsonFlag = False) -> None: ...

and the parser sees every field of `RunFlags` as an option of its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from vlmprompt.cli.options import (
    BackboneOption,
    ConfigFileOption,
    DataOption,
    DeviceOption,
    FeatureCacheOption,
    ImageSizeOption,
    MethodOption,
    PresetOption,
    QuickGeluOption,
    RandomWeightsOption,
    RootOption,
    RunsDirOption,
    SetOption,
    WorkersOption,
)
from vlmprompt.cli.output import warn

if TYPE_CHECKING:
    from vlmprompt.config.layers import Layer
    from vlmprompt.config.models import RunConfig, Runtime
    from vlmprompt.config.resolve import Resolved

Flags = TypeVar("Flags")
_LEAVE = (
    "allow_fewer",
    "accept_split",
    "allow_missing",
    "allow_overlap",
    "allow_outside",
)  # flags that accept something
_LEARNS = "What it learns from"
_OPTIMISED = "How it is optimised (see also --set)"


def _learns(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=_LEARNS, **more)


def _optimised(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=_OPTIMISED, **more)


_ShotsOption = Annotated[str | None, _learns("--shots", "Training images per class, or all.", metavar="INT|all")]
_SeedOption = Annotated[int | None, _learns("--seed", "Seed of sample, initial values and order.")]
_SettingOption = Annotated[
    str | None,
    _learns("--setting", "few-shot, base-to-new or cross-dataset: classes and schedule.", metavar="NAME"),
]
_ProtocolOption = Annotated[str | None, _learns("--protocol", "Data conventions: coop or gallop-code.", metavar="NAME")]
_ClassNamesOption = Annotated[
    Path | None, _learns("--class-names", "File with one class name a line, in label order.", metavar="FILE")
]
_AliasesOption = Annotated[
    str | None, _learns("--aliases", "Lines 'old = new': other names for classes, of all data.", metavar="FILE")
]
_TemplatesOption = Annotated[
    str | None,
    _learns("--templates", "Texts with {} around class names, averaged; or clip7, clip80.", metavar="FILE"),
]
_DescriptionsOption = Annotated[
    str | None,
    _learns("--descriptions", "Class descriptions, for methods that read some; default: found.", metavar="FILE"),
]
_AllowMissingOption = Annotated[bool, _learns("--allow-missing", "Accept classes without a description.")]
_AllowFewerOption = Annotated[bool, _learns("--allow-fewer", "Accept classes with fewer images than shots.")]
_AcceptSplitOption = Annotated[
    bool, _learns("--accept-split", "Accept a benchmark's split that is not the published one; it is recorded.")
]
_ExifOption = Annotated[
    bool | None,
    _learns("--exif/--no-exif", "Turn your own pictures as their EXIF orientation says, or read them as stored."),
]
_AllowOverlapOption = Annotated[
    bool, _learns("--allow-overlap", "Accept images that are in more than one split; it is recorded.")
]
_AllowOutsideOption = Annotated[bool, _learns("--allow-outside", "Accept absolute paths in a list that lead anywhere.")]
_SplitSeedOption = Annotated[
    int | None, _learns("--split-seed", "Seed of the split of a data set that has none; default 1.")
]
_EpochsOption = Annotated[int | None, _optimised("--epochs", "Passes over the training images.")]
_LrOption = Annotated[float | None, _optimised("--lr", "Peak learning rate.")]
_BatchSizeOption = Annotated[int | None, _optimised("--batch-size", "Images a step.")]
_MaxStepsOption = Annotated[
    int | None, _optimised("--max-steps", "Stop after so many steps, where the epochs have so many.")
]
_ScheduleOption = Annotated[
    str | None,
    _optimised(
        "--schedule",
        "cosine, linear, constant, or step: with --set milestones=[30,60] and --set gamma=0.1.",
        metavar="NAME",
    ),
]
_SamplingOption = Annotated[
    str | None,
    _optimised("--sampling", "shuffled, or balanced: each class equally often in an epoch.", metavar="NAME"),
]
_ClassWeightsOption = Annotated[
    str | None,
    _optimised(
        "--class-weights",
        "Weights in the loss: none, balanced (n / (C * n_c)), or a table such as '{cat = 2}'.",
        metavar="none|balanced|TABLE",
    ),
]
_ValidateEveryOption = Annotated[
    int | None,
    _optimised("--validate-every", "Epochs between measurements on the val images; default: never.", metavar="N"),
]
_KeepOption = Annotated[
    str | None,
    _optimised("--keep", "State that the run ends with: last, or best by --validate-every.", metavar="last|best"),
]
_PatienceOption = Annotated[
    int | None,
    _optimised("--patience", "Stop after so many measurements without a better one; default: never.", metavar="N"),
]
_PrecisionOption = Annotated[
    str | None, _optimised("--precision", "Arithmetic of the towers: fp32, bf16 or fp16.", metavar="NAME")
]
_ViewsOption = Annotated[
    int | None,
    _optimised("--views", "0: fresh augmentation each epoch; V > 0: V fixed views, features cached."),
]


@dataclass(frozen=True, kw_only=True)
class BaseFlags:
    """What runs with the same meaning for one run or many."""

    backbone: BackboneOption = None
    random_weights: RandomWeightsOption = None
    quick_gelu: QuickGeluOption = None
    image_size: ImageSizeOption = None
    preset: PresetOption = None
    config: ConfigFileOption = None
    set_: SetOption = None
    setting: _SettingOption = None
    protocol: _ProtocolOption = None
    class_names: _ClassNamesOption = None
    aliases: _AliasesOption = None
    templates: _TemplatesOption = None
    allow_fewer: _AllowFewerOption = False
    descriptions: _DescriptionsOption = None
    allow_missing: _AllowMissingOption = False
    accept_split: _AcceptSplitOption = False
    exif: _ExifOption = None
    allow_overlap: _AllowOverlapOption = False
    allow_outside: _AllowOutsideOption = False
    split_seed: _SplitSeedOption = None
    epochs: _EpochsOption = None
    lr: _LrOption = None
    batch_size: _BatchSizeOption = None
    max_steps: _MaxStepsOption = None
    schedule: _ScheduleOption = None
    precision: _PrecisionOption = None
    views: _ViewsOption = None
    sampling: _SamplingOption = None
    class_weights: _ClassWeightsOption = None
    validate_every: _ValidateEveryOption = None
    keep: _KeepOption = None
    patience: _PatienceOption = None
    device: DeviceOption = "auto"
    workers: WorkersOption = 2
    root: RootOption = None
    feature_cache: FeatureCacheOption = None

    def resolve(self, *, base: RunConfig | None = None, layers: Sequence[Layer] = (), **more: Any) -> Resolved:
        """The configuration that these flags, with files and environment, amount to.

        Args:
            base: see `config.resolve`.
            layers: further sources, stronger than --set.
            more: further run-level flags, such as `method`; None where not given.
        """
        from vlmprompt.config.keys import Text
        from vlmprompt.config.resolve import resolve

        run_level = (
            "backbone",
            "random_weights",
            "quick_gelu",
            "image_size",
            "preset",
            "setting",
            "protocol",
            "aliases",
            "templates",
            "descriptions",
            "exif",
            "split_seed",
        )
        train = (
            "epochs",
            "lr",
            "batch_size",
            "max_steps",
            "schedule",
            "precision",
            "views",
            "sampling",
            "validate_every",
            "keep",
            "patience",
        )
        flags = more | {name: getattr(self, name) for name in run_level}
        flags |= {f"train.{name}": getattr(self, name) for name in train}
        flags |= {"train.class_weights": None if self.class_weights is None else Text(self.class_weights)}
        # Absent, such a flag says nothing, so that a file may allow it.
        flags |= {key: getattr(self, key) or None for key in _LEAVE}
        flags |= {"class_names": None if self.class_names is None else str(self.class_names)}
        return resolve(flags, sets=self.set_ or (), more=layers, config_file=self.config, base=base)

    def runtime(self) -> Runtime:
        """Where and how it runs."""
        from vlmprompt.config.models import Runtime

        return Runtime(**{name: getattr(self, name) for name in Runtime.model_fields if hasattr(self, name)})


@dataclass(frozen=True, kw_only=True)
class _OneRun:
    method: MethodOption = None
    data: DataOption = None
    shots: _ShotsOption = None
    seed: _SeedOption = None


@dataclass(frozen=True, kw_only=True)
class RunFlags(BaseFlags, _OneRun):  # in this order the fields of `_OneRun` come first, on help pages too
    """One run."""

    runs_dir: RunsDirOption = Path("runs")

    def resolve(self, *, base: RunConfig | None = None, layers: Sequence[Layer] = (), **more: Any) -> Resolved:
        """See `BaseFlags.resolve`."""
        own = {"method": self.method, "data": self.data, "shots": self.shots, "seed": self.seed}
        return super().resolve(base=base, layers=layers, **own, **more)


def mention_defaults(resolved: Resolved) -> None:
    """Say that the built-in model is used where the data are the user's own and no other was named."""
    data, backbone = (resolved.sources[key] for key in ("data", "backbone"))
    if backbone == "default" and data != "default" and not resolved.run.data.startswith("doodles"):
        warn(
            f"no --backbone given: {resolved.run.backbone} is used, which was trained on drawings alone; "
            "for photographs give one such as --backbone ViT-B-16-quickgelu/openai"
        )


def command_with(flags: type[Flags]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command whose first argument is a `flags` object every field of that class as an option."""
    hints = get_type_hints(flags, include_extras=True)
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(flags)  # type: ignore[arg-type]
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = list(signature.parameters.values())[1:]

        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            given = {p.name: values.pop(p.name) for p in shared}
            command(flags(**given), **values)

        wrapper.__signature__ = signature.replace(parameters=[*shared, *own])  # type: ignore[attr-defined]
        return wrapper

    return decorate
