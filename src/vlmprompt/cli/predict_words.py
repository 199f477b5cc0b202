"""What is named behind `vlmprompt predict`: perhaps a run, and pictures. All is refused here before torch is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlmprompt.cli.names import require_backbones
from vlmprompt.errors import InputError, UsageError, nearest

if TYPE_CHECKING:
    from vlmprompt.predict.inputs import Inputs


def parted(words: Sequence[str], runs_dir: Path) -> tuple[Path | None, list[str]]:
    """The run, if the first word names one, and what names pictures.

    A run is a folder with a run.json, or the name of one in the folder of runs where nothing else is called so.

    Raises:
        UsageError: two runs are named.
        InputError: the first word is almost the name of a run, and nothing else.
    """
    from vlmprompt.training.places import RUN_FILE, finished_runs, run_at

    first = Path(words[0])
    found = run_at(first, runs_dir)
    run = found if (found / RUN_FILE).exists() else None
    if (
        run is None
        and not first.exists()
        and (near := nearest(words[0], (run.name for run in finished_runs(runs_dir))))
    ):
        known = " or ".join(map(repr, near))
        raise InputError(f"there is neither a picture nor a run {words[0]}", hint=f"did you mean {known}?")
    rest = list(words) if run is None else list(words[1:])
    for word in rest:
        if word != "-" and (Path(word) / RUN_FILE).exists():
            other = "behind pictures" if run is None else f"beside {run}"
            raise UsageError(f"{word} is a run, and named {other}", hint="name one run, and name it first")
    return run, rest


def require_place(run: Path | None, runs_dir: Path, device: str, backbone: str | None) -> None:
    """Refuse a run that is not finished, no run at all, a device or a backbone that is not known."""
    from vlmprompt.config.device import require_device
    from vlmprompt.training.places import finished_runs, no_run, require_finished

    if run is not None:
        require_finished(run)
    elif not finished_runs(runs_dir):
        raise no_run(runs_dir)
    require_device(device)
    require_backbones([] if backbone is None else [(backbone, None)])


def inputs_of(words: Sequence[str], sort_into: Path | None, *, as_json: bool) -> Inputs:
    """The pictures that words name, and a place for those that are sorted.

    Raises:
        UsageError: they do not fit together, or name nothing.
        InputError: there is nothing of a name, or nothing can be written where they are to be sorted.
    """
    from vlmprompt.predict.inputs import STDIN, Inputs

    if STDIN in words and as_json:
        raise UsageError(
            "standard input is empty under --json", hint="use --format jsonl, or --out FILE without --json"
        )
    if sort_into is not None and sort_into.exists() and not sort_into.is_dir():
        raise UsageError(f"{sort_into} is a file, not a folder", hint="name a folder with --sort-into")
    if sort_into is not None:
        from vlmprompt.predict.sorting import require_place as require_writable

        require_writable(sort_into)
    return Inputs.of(words, stdin=_lines() if STDIN in words else (), left_out=sort_into)


def _lines() -> Iterable[str]:
    """Lines of standard input; bytes that are no UTF-8 stay, and are told of with their path."""
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="surrogateescape")
    return sys.stdin
