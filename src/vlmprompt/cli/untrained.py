"""`vlmprompt evaluate --method`: the flags of methods that are measured without a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.options import (
    ConfigFileOption,
    ImageSizeOption,
    PresetOption,
    QuickGeluOption,
    RandomWeightsOption,
    SetOption,
)
from vlmprompt.cli.run_flags import ACCEPTING, RUN_LEVEL
from vlmprompt.cli.run_options import (
    AcceptSplitOption,
    AllowMissingOption,
    AllowOutsideOption,
    ClassNamesOption,
    ExifOption,
    PrecisionOption,
    ProtocolOption,
    SettingOption,
    SplitSeedOption,
    TemplatesOption,
)
from vlmprompt.errors import UsageError

if TYPE_CHECKING:
    from vlmprompt.config.resolve import Resolved


@dataclass(frozen=True, kw_only=True)
class MethodFlags:
    """What is measured where no run is named."""

    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="Method without training, measured instead of runs; may be repeated.",
            rich_help_panel="Method and model",
        ),
    ] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="With --method: its towers, as in train. With runs: where the weights of their backbone "
            "are now; they must be those of the training.",
            rich_help_panel="Method and model",
            show_default=False,
        ),
    ] = None
    random_weights: RandomWeightsOption = None
    quick_gelu: QuickGeluOption = None
    image_size: ImageSizeOption = None
    preset: PresetOption = None
    config: ConfigFileOption = None
    set_: SetOption = None
    setting: SettingOption = None
    protocol: ProtocolOption = None
    class_names: ClassNamesOption = None
    templates: TemplatesOption = None
    allow_missing: AllowMissingOption = False
    accept_split: AcceptSplitOption = False
    exif: ExifOption = None
    allow_outside: AllowOutsideOption = False
    split_seed: SplitSeedOption = None
    precision: PrecisionOption = None

    def settle(self, runs: list[Path] | None, *, no_reference: bool) -> None:
        """Refuse flags that have no effect on what is to be measured.

        Raises:
            UsageError: a flag is for runs alone, or for methods alone.
        """
        if self.method and runs:
            raise UsageError(
                f"runs and --method exclude each other: {runs[0]} knows its method",
                hint="measure them in two commands; 'vlmprompt report' shows both",
            )
        if self.method and no_reference:
            raise UsageError(
                "--no-reference has no effect with --method: nothing else is measured", hint="leave it out"
            )
        idle = [] if self.method else list(self._given())
        if idle:
            raise UsageError(
                f"{idle[0]} has no effect on a run, which knows its own",
                hint="a method without training is measured by --method, such as --method zeroshot",
            )

    def resolved(self, **more: Any) -> list[Resolved]:
        """The configuration of each method.

        Args:
            more: further run-level values, such as `data`; None where not given.

        Raises:
            UsageError, PluginError: see `config.resolve`.
        """
        from vlmprompt.config.resolve import resolve

        flags = {key: getattr(self, key) for key in RUN_LEVEL if hasattr(self, key)}
        flags |= {key: getattr(self, key) or None for key in ACCEPTING if hasattr(self, key)}
        flags |= {"train.precision": self.precision} | more
        return [
            resolve(flags | {"method": method}, sets=self.set_ or (), config_file=self.config)
            for method in dict.fromkeys(self.method or ())
        ]

    def _given(self) -> Iterator[str]:
        """The flags that are for methods alone, as they are typed."""
        for field in fields(self):
            if field.name != "backbone" and getattr(self, field.name) not in (field.default, []):
                yield "--" + field.name.strip("_").replace("_", "-")
