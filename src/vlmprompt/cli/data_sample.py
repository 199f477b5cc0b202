"""`vlmprompt data sample`: the images that a run would draw from a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.data_pages import sample_page
from vlmprompt.cli.options import (
    AcceptSplitFlag,
    AllowOutsideFlag,
    ClassNamesOption,
    JsonFlag,
    ProtocolOption,
    RootOption,
    SpecArgument,
    SplitSeedOption,
)
from vlmprompt.cli.output import emit, warn
from vlmprompt.config.limits import MOST_SEED, MOST_SHOTS
from vlmprompt.errors import InputError, UsageError, did_you_mean

if TYPE_CHECKING:
    from vlmprompt.data.records import Dataset, Record


def sample(
    data: SpecArgument,
    shots: Annotated[str, typer.Option("--shots", metavar="INT|all", help="Training images per class, or all.")] = "16",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sample.")] = 1,
    sampler: Annotated[
        str | None, typer.Option("--sampler", metavar="NAME", help="coop or gallop; default: the protocol's.")
    ] = None,
    protocol: ProtocolOption = "coop",
    root: RootOption = None,
    accept_split: AcceptSplitFlag = False,
    allow_fewer: Annotated[
        bool, typer.Option("--allow-fewer", help="Accept classes with fewer images than shots.")
    ] = False,
    class_names: ClassNamesOption = None,
    split_seed: SplitSeedOption = 1,
    allow_outside: AllowOutsideFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the images that a run would train on and choose by, in order.

    Read from the split file alone where there is one: the images need not be
    there.
    """
    from vlmprompt.data.fewshot import SAMPLER_OF, SAMPLERS
    from vlmprompt.data.load import load_dataset

    _require("protocol", protocol, SAMPLER_OF)
    sampler = sampler or SAMPLER_OF[protocol]
    _require("sampler", sampler, SAMPLERS)
    if seed > MOST_SEED:  # as an option's bound it would fill the help page
        raise UsageError(f"--seed {seed} is beyond 2^63 - 1", hint="such as --seed 1")
    asked = {"shots": _shots(shots), "seed": seed, "sampler": sampler, "protocol": protocol}
    dataset = load_dataset(
        data,
        root=root,
        class_names_file=class_names,
        split_seed=split_seed,
        accept_split=accept_split,
        protocol=protocol,
        need_images=False,
        allow_outside=allow_outside,
    )
    content = {"spec": dataset.spec, **asked, **_drawn(dataset, _shots(shots), seed, sampler, allow_fewer)}
    emit("data sample", content, as_json=as_json, table=sample_page(content))


def _drawn(dataset: Dataset, shots: int | None, seed: int, sampler: str, allow_fewer: bool) -> dict[str, Any]:
    """The images, and what is doubtful about them, which is said."""
    from vlmprompt.data.copies import settle_copies
    from vlmprompt.data.fewshot import sample as draw
    from vlmprompt.data.fewshot import with_val

    split, val_source = with_val(dataset, draw(dataset, shots, seed, allow_fewer=allow_fewer, sampler=sampler))
    try:
        dataset, split = settle_copies(dataset, split, allow=False)
    except InputError as error:
        warn(f"a run would stop: {error.message}")
    for doubt in (*dataset.warnings, *split.doubts):
        warn(doubt)
    return {
        "val_source": val_source,
        "digest": split.digest,
        "notes": dataset.notes,
        "train": _rows(split.train, dataset),
        "val": _rows(split.val, dataset),
    }


def _require(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}", hint=did_you_mean(name, known))


def _shots(text: str) -> int | None:
    if text.lower() == "all":
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:11]) <= MOST_SHOTS):
        raise UsageError(f"--shots {text!r} is neither a number of images nor all", hint="such as --shots 16")
    return int(text)


def _rows(records: Sequence[Record], dataset: Dataset) -> list[dict[str, Any]]:
    return [{"path": r.id, "label": r.label, "class": dataset.class_names[r.label]} for r in records]
