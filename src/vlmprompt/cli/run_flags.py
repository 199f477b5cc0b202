"""The flags that say what is trained and where, written once for `train`, `config show` and `sweep`; see `grouped`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprompt.cli.machine import MachineFlags
from vlmprompt.cli.options import (
    BackboneOption,
    ConfigFileOption,
    DataOption,
    ImageSizeOption,
    MethodOption,
    PresetOption,
    QuickGeluOption,
    RandomWeightsOption,
    RunsDirOption,
    SetOption,
    TrackerOption,
)
from vlmprompt.cli.output import warn
from vlmprompt.cli.run_options import (
    AcceptSplitOption,
    AliasesOption,
    AllowFewerOption,
    AllowMissingOption,
    AllowOutsideOption,
    AllowOverlapOption,
    BatchSizeOption,
    ClassNamesOption,
    ClassWeightsOption,
    DescriptionsOption,
    EpochsOption,
    ExifOption,
    KeepOption,
    LrOption,
    MaxStepsOption,
    PatienceOption,
    PrecisionOption,
    ProtocolOption,
    SamplingOption,
    ScheduleOption,
    SeedOption,
    SettingOption,
    ShotsOption,
    SplitSeedOption,
    TemplatesOption,
    ValidateEveryOption,
    ValSearchOption,
    ViewsOption,
)

if TYPE_CHECKING:
    from vlmprompt.config.layers import Layer
    from vlmprompt.config.models import RunConfig, Runtime
    from vlmprompt.config.resolve import Resolved

# Fields of a run that a flag sets, by the same name; and flags that accept something.
RUN_LEVEL = (
    "backbone",
    "random_weights",
    "quick_gelu",
    "image_size",
    "preset",
    "setting",
    "protocol",
    "class_names",
    "aliases",
    "templates",
    "descriptions",
    "exif",
    "split_seed",
)
ACCEPTING = (
    "allow_fewer",
    "accept_split",
    "allow_missing",
    "allow_overlap",
    "allow_outside",
)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    backbone: BackboneOption = None
    random_weights: RandomWeightsOption = None
    quick_gelu: QuickGeluOption = None
    image_size: ImageSizeOption = None
    preset: PresetOption = None
    config: ConfigFileOption = None
    set_: SetOption = None
    setting: SettingOption = None
    protocol: ProtocolOption = None
    class_names: ClassNamesOption = None
    aliases: AliasesOption = None
    templates: TemplatesOption = None
    allow_fewer: AllowFewerOption = False
    descriptions: DescriptionsOption = None
    allow_missing: AllowMissingOption = False
    accept_split: AcceptSplitOption = False
    exif: ExifOption = None
    allow_overlap: AllowOverlapOption = False
    allow_outside: AllowOutsideOption = False
    split_seed: SplitSeedOption = None
    epochs: EpochsOption = None
    lr: LrOption = None
    batch_size: BatchSizeOption = None
    max_steps: MaxStepsOption = None
    schedule: ScheduleOption = None
    precision: PrecisionOption = None
    views: ViewsOption = None
    sampling: SamplingOption = None
    class_weights: ClassWeightsOption = None
    validate_every: ValidateEveryOption = None
    keep: KeepOption = None
    patience: PatienceOption = None
    val_search: ValSearchOption = None


@dataclass(frozen=True, kw_only=True)
class BaseFlags(MachineFlags, _Trained):  # in this order the fields of `_Trained` come first, on help pages too
    """What runs with the same meaning for one run or many."""

    tracker: TrackerOption = None

    def resolve(self, *, base: RunConfig | None = None, layers: Sequence[Layer] = (), **more: Any) -> Resolved:
        """The configuration that these flags, with files and environment, amount to.

        Args:
            base: see `config.resolve`.
            layers: further sources, stronger than --set.
            more: further run-level flags, such as `method`; None where not given.
        """
        from vlmprompt.config.keys import Text
        from vlmprompt.config.resolve import resolve

        train = (
            "epochs",
            "lr",
            "batch_size",
            "max_steps",
            "schedule",
            "precision",
            "sampling",
            "validate_every",
            "keep",
            "patience",
            "val_search",
        )
        flags = more | {name: getattr(self, name) for name in RUN_LEVEL}
        flags |= {f"train.{name}": getattr(self, name) for name in train}
        typed = {"class_weights": self.class_weights, "views": self.views}
        flags |= {f"train.{name}": None if value is None else Text(value) for name, value in typed.items()}
        # Absent, such a flag says nothing, so that a file may allow it.
        flags |= {key: getattr(self, key) or None for key in ACCEPTING}
        return resolve(flags, sets=self.set_ or (), more=layers, config_file=self.config, base=base)

    def runtime(self, **more: Any) -> Runtime:
        """Where and how it runs; trackers are those of the configuration file where no flag names any."""
        from vlmprompt.config.layers import file_trackers

        return super().runtime(tracker=self.tracker or file_trackers(self.config), **more)


@dataclass(frozen=True, kw_only=True)
class _OneRun:
    method: MethodOption = None
    data: DataOption = None
    shots: ShotsOption = None
    seed: SeedOption = None


@dataclass(frozen=True, kw_only=True)
class RunFlags(BaseFlags, _OneRun):  # see `BaseFlags`
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
