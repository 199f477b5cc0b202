"""Option types that several commands share, so that a flag means the same and reads the same everywhere.

A command gives the default: `def train(data: DataOption = None, as_json: JsonFlag = False)`. `None` stands
for "not given", which leaves the value to the sources of lower precedence (`--set`, environment, file, ...).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmprompt.config.limits import MOST_WORKERS

_WHERE = "Machine and folders"
_WHAT = "Method and model"

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]

MethodOption = Annotated[
    str | None,
    typer.Option("--method", "-m", help="Method; see 'vlmprompt methods list'.", rich_help_panel=_WHAT),
]
DataOption = Annotated[
    str | None,
    typer.Option("--data", "-d", help="Data set, such as folder:photos or csv:list.csv.", rich_help_panel=_WHAT),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        "-b",
        help="Architecture/tag, architecture/file, hf-hub:owner/name, local-dir:folder; see docs/backbones.md.",
        rich_help_panel=_WHAT,
    ),
]
RandomWeightsOption = Annotated[
    int | None,
    typer.Option(
        "--random-weights",
        metavar="SEED",
        help="Use random tower weights and download nothing; default SEED 0.",
        rich_help_panel=_WHAT,
    ),
]
QuickGeluOption = Annotated[
    bool | None,
    typer.Option(
        "--quick-gelu/--no-quick-gelu",
        help="Whether a local checkpoint uses QuickGELU, if its architecture exists with and without.",
        rich_help_panel=_WHAT,
    ),
]
ImageSizeOption = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="INT|HxW",
        help="Pixels of input images, such as 384 or 256x128; default: the tower's own.",
        rich_help_panel=_WHAT,
    ),
]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="Named set of the method's options.", rich_help_panel=_WHAT)
]
ConfigFileOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Run configuration in TOML.", rich_help_panel=_WHAT)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="One setting, such as lr=0.01 or options.n_ctx=8; may be repeated.",
        rich_help_panel=_WHAT,
    ),
]

DeviceOption = Annotated[
    str,
    typer.Option("--device", help="auto (cuda, else mps, else cpu), cpu, cuda, cuda:1, mps.", rich_help_panel=_WHERE),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=MOST_WORKERS,
        help="Image-decoding processes; 0 decodes in the main one. Default 2, with a GPU up to 8, depending on the "
        "number of cores.",
        rich_help_panel=_WHERE,
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root",
        envvar="VLMPROMPT_ROOT",
        help="Parent folder of the data sets' folders.",
        rich_help_panel=_WHERE,
    ),
]
RunsDirOption = Annotated[
    Path,
    typer.Option(
        "--runs-dir",
        envvar="VLMPROMPT_RUNS_DIR",
        help="Parent folder of run folders.",
        rich_help_panel=_WHERE,
    ),
]
FeatureCacheOption = Annotated[
    str | None,
    typer.Option(
        "--feature-cache",
        metavar="DIR|off",
        envvar="VLMPROMPT_FEATURE_CACHE",
        help="Folder of stored image features; default: in the user's cache folder; off: store none.",
        rich_help_panel=_WHERE,
    ),
]
FeatureLimitOption = Annotated[
    float,
    typer.Option(
        "--feature-limit",
        metavar="GB",
        min=0,
        envvar="VLMPROMPT_FEATURE_LIMIT",
        help="Size limit of that folder; features that do not fit stay in memory.",
        rich_help_panel=_WHERE,
    ),
]
FeatureDtypeOption = Annotated[
    str,
    typer.Option(
        "--feature-dtype",
        metavar="fp32|fp16|bf16",
        envvar="VLMPROMPT_FEATURE_DTYPE",
        help="Round and store features of frozen image towers in this type.",
        rich_help_panel=_WHERE,
    ),
]
TrackerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        metavar="NAME",
        help="Also send the log to this tracker, such as tensorboard; may be repeated. See 'vlmprompt trackers list'.",
        rich_help_panel=_WHERE,
    ),
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Redo what is already done.")]
SuiteOption = Annotated[
    list[str] | None, typer.Option("--suite", help="Suite; may be repeated. See 'vlmprompt suites list'.")
]
_WITH = "Data for suites, instead of those that the data set names"
DomainOption = Annotated[
    list[str] | None,
    typer.Option("--domain", help="Data set of the same classes; may be repeated.", rich_help_panel=_WITH),
]
OodOption = Annotated[
    list[str] | None,
    typer.Option("--ood", help="Set of other images, to be told apart; may be repeated.", rich_help_panel=_WITH),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="Data set to transfer to; may be repeated.", rich_help_panel=_WITH),
]
ScoreSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--score-set",
        metavar="NAME.OPTION=VALUE",
        help="One option of a plugin's score; may be repeated. See 'vlmprompt scores list'.",
        rich_help_panel=_WITH,
    ),
]
AliasesOption = Annotated[
    Path | None,
    typer.Option(
        "--aliases",
        metavar="FILE",
        help="Lines 'old = new': class names in these data and in the run; with --method also for its own data.",
        rich_help_panel=_WITH,
    ),
]
ContentsFlag = Annotated[
    bool,
    typer.Option(
        "--contents", help="Identify test images by their bytes, not by size and time.", rich_help_panel=_WITH
    ),
]
ReporterOption = Annotated[
    str, typer.Option("--reporter", help="Format of the results. See 'vlmprompt reporters list'.")
]

# Of commands that read a data set and train nothing.
SpecArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="Data set, such as coop:dtd or folder:photos.", show_default=False)
]
AcceptSplitFlag = Annotated[bool, typer.Option("--accept-split", help="Accept a split that is not the published one.")]
ProtocolOption = Annotated[
    str, typer.Option("--protocol", metavar="NAME", help="Data conventions: coop or gallop-code.")
]
ClassNamesOption = Annotated[
    Path | None,
    typer.Option("--class-names", metavar="FILE", help="File with one class name per line, in label order."),
]
SplitSeedOption = Annotated[
    int, typer.Option("--split-seed", min=0, help="Seed of the split of a data set that has none.")
]
AllowOutsideFlag = Annotated[
    bool, typer.Option("--allow-outside", help="Accept absolute paths in a list to any folder.")
]
