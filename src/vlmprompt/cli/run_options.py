"""The options of a run, each with its text and its panel on help pages; commands pick those that they take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

_LEARNS = "Data and classes"
_OPTIMISED = "Training (see also --set)"


def _learns(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=_LEARNS, **more)


def _optimised(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=_OPTIMISED, **more)


ShotsOption = Annotated[str | None, _learns("--shots", "Training images per class, or all.", metavar="INT|all")]
SeedOption = Annotated[int | None, _learns("--seed", "Seed of few-shot sample, initial values and order.")]
SettingOption = Annotated[
    str | None,
    _learns("--setting", "few-shot, base-to-new or cross-dataset: classes and schedule.", metavar="NAME"),
]
ProtocolOption = Annotated[str | None, _learns("--protocol", "Data conventions: coop or gallop-code.", metavar="NAME")]
ClassNamesOption = Annotated[
    str | None, _learns("--class-names", "File with one class name per line, in label order.", metavar="FILE")
]
AliasesOption = Annotated[
    str | None, _learns("--aliases", "File of lines 'old = new': other names for classes, in all data.", metavar="FILE")
]
TemplatesOption = Annotated[
    str | None,
    _learns("--templates", "Texts with {} around class names, averaged; or clip7, clip80.", metavar="FILE"),
]
DescriptionsOption = Annotated[
    str | None,
    _learns(
        "--descriptions",
        "Class descriptions, for methods that read them; default: found automatically.",
        metavar="FILE",
    ),
]
AllowMissingOption = Annotated[bool, _learns("--allow-missing", "Accept classes without a description.")]
AllowFewerOption = Annotated[bool, _learns("--allow-fewer", "Accept classes with fewer images than shots.")]
AcceptSplitOption = Annotated[
    bool, _learns("--accept-split", "Accept a benchmark's split that is not the published one; it is recorded.")
]
ExifOption = Annotated[
    bool | None,
    _learns("--exif/--no-exif", "Rotate your own pictures by their EXIF orientation, or read them as stored."),
]
AllowOverlapOption = Annotated[
    bool, _learns("--allow-overlap", "Accept images that are in more than one split; it is recorded.")
]
AllowOutsideOption = Annotated[bool, _learns("--allow-outside", "Accept absolute paths in a list to any folder.")]
SplitSeedOption = Annotated[
    int | None, _learns("--split-seed", "Seed for splitting a data set that has no split; default 1.")
]
EpochsOption = Annotated[int | None, _optimised("--epochs", "Passes over the training images.")]
LrOption = Annotated[float | None, _optimised("--lr", "Peak learning rate.")]
BatchSizeOption = Annotated[int | None, _optimised("--batch-size", "Images per step.")]
MaxStepsOption = Annotated[
    int | None, _optimised("--max-steps", "Stop after this many steps, if the epochs have that many.")
]
ScheduleOption = Annotated[
    str | None,
    _optimised(
        "--schedule",
        "cosine, linear, constant, or step: with --set milestones=[30,60] and --set gamma=0.1.",
        metavar="NAME",
    ),
]
SamplingOption = Annotated[
    str | None,
    _optimised("--sampling", "shuffled, or balanced: each class equally often in an epoch.", metavar="NAME"),
]
ClassWeightsOption = Annotated[
    str | None,
    _optimised(
        "--class-weights",
        "Weights in the loss: none, balanced (n / (C * n_c)), or a table such as '{cat = 2}'.",
        metavar="none|balanced|TABLE",
    ),
]
ValidateEveryOption = Annotated[
    int | None,
    _optimised("--validate-every", "Epochs between measurements on the val images; default: never.", metavar="N"),
]
KeepOption = Annotated[
    str | None,
    _optimised(
        "--keep", "State that the run ends with: the last, or the best by --validate-every.", metavar="last|best"
    ),
]
PatienceOption = Annotated[
    int | None,
    _optimised("--patience", "Stop after this many measurements without a better one; default: never.", metavar="N"),
]
ValSearchOption = Annotated[
    bool | None,
    _optimised(
        "--val-search/--no-val-search",
        "Whether the method may choose its own hyper-parameters on the val images.",
    ),
]
PrecisionOption = Annotated[
    str | None, _optimised("--precision", "Arithmetic of the towers: fp32, bf16 or fp16.", metavar="NAME")
]
ViewsOption = Annotated[
    str | None,
    _optimised(
        "--views",
        "0: fresh augmentation each epoch; V > 0: V fixed views, features cached; auto: the largest of 16, 8, 4, 1 "
        "that costs at most a quarter of fresh views.",
        metavar="INT|auto",
    ),
]
