"""From a run and images to pictures of where it looks.

Shapes: B images, N patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vlmprompt.atomic import probe
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError, UsageError, did_you_mean
from vlmprompt.explain.chosen import (
    WHICH,
    Reading,
    Seen,
    Which,
    mistakes,
    named_images,
    shuffled_test,
)
from vlmprompt.explain.draw import lacking
from vlmprompt.explain.entries import CLIP, Entries
from vlmprompt.explain.extras import extra_figures, extra_tables
from vlmprompt.explain.maps import Looking
from vlmprompt.explain.written import FILE, FOLDER, VERSION, Explained, require_ours, room, write
from vlmprompt.methods.build import build_method, written_for
from vlmprompt.methods.streaming import require_fixed
from vlmprompt.predict.calibrated import Calibrated
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.runs import Run

BASELINE = "zeroshot"


def explain(
    run: Run,
    images: Path | str | Record | Sequence[Path | str | Record] | None = None,
    *,
    out: Path | str | None = None,
    n: int = 8,
    seed: int = 1,
    which: Which = "random",
    runtime: Runtime | None = None,
    backbone: Backbone | None = None,
    progress: Progress | None = None,
) -> Explained:
    """Write pictures of where a run looks in images, zero-shot CLIP beside it, and an explain.json that names them.

    Args:
        images: a file, a folder of them or a record of the run's label space, or several; None: some test images of
            its data.
        out: the folder; None: `explain` in the run's own. Pictures of an earlier call there make room; what else lies
            there stays.
        n: test images at most.
        seed: of their choice: the first n of all, shuffled by `random.Random(seed)`.
        which: "random", or "mistakes": the first n, in that order, that the run takes for another class.
        backbone: the run's towers, if they are in memory already.

    Raises:
        UsageError: a value is not allowed.
        InputError: no image could be read, the run makes no mistakes, files that are not this run's pictures would be
            replaced, or see `Run.build_method`.
        CapabilityError: the tower has no places to show, or the method adapts at test time.
    """
    images = _asked(images, n, which)
    run.require_finished()
    progress = progress or SilentProgress()
    folder = run.path / FOLDER if out is None else Path(out)
    wanted = shuffled_test(run, seed, runtime) if images is None else named_images(run, images)
    require_ours(folder, run)
    probe(folder)
    towers = run.load_backbone(runtime) if backbone is None else backbone
    method = run.build_method(towers)
    require_fixed(method, "a look at where a run looks")
    own = Looking.of(run.config.method, method)
    reading = Reading(towers, progress)
    temperature = _temperature(run, progress)
    with torch.inference_mode(False), room(folder) as waiting:
        chosen = _chosen(wanted, own, reading, n if images is None else None, which, progress)
        count = len(wanted) if images is not None else None if which == "mistakes" else min(n, len(wanted))
        work = Entries(waiting, own, _baseline(run, towers), progress, count, temperature)
        entries = list(work.images(chosen))
        if not entries:
            raise _nothing(reading.failed, which)
        figures = [*work.figures(), *_extra_figures(run, waiting, progress)]
        content = _content(run, entries, figures, extra_tables(run, method))
        found = Explained(folder, content, tuple(error.told for error in reading.failed))
        require_ours(folder, run, found.files)
        write(folder, waiting, content)
    if images is None and which == "mistakes" and len(entries) < n:
        progress.message(f"the run takes no more of its {len(wanted)} test images for another class")
    _warn(entries, own, progress)
    return found


def _asked(
    images: Path | str | Record | Sequence[Path | str | Record] | None, n: int, which: Which
) -> Sequence[Path | str | Record] | None:
    """The images that are named, if any. Raises: UsageError: a value is not allowed."""
    if which not in WHICH:
        raise UsageError(f"unknown choice of images {which!r}", hint=did_you_mean(which, WHICH))
    if n < 1:
        raise UsageError(f"n = {n} shows no image", hint="at least 1")
    if isinstance(images, str | Path | Record):
        return [images]
    if images is not None and not images:
        raise UsageError("no image is named", hint="name some, or leave them out for test images")
    return images


def _content(
    run: Run, entries: Sequence[Mapping[str, Any]], figures: Sequence[Any], tables: Sequence[Any]
) -> dict[str, Any]:
    """What explain.json holds."""
    made_of = {"version": VERSION, "run": run.name, "checkpoint": run.digest}
    return made_of | {"images": entries, "figures": figures, "tables": tables}


def _warn(entries: Sequence[Mapping[str, Any]], own: Looking, progress: Progress) -> None:
    """Say what of the pictures is not as one would expect."""
    names = (name for image in entries for name in (image["predicted"], image["true"] or ""))
    boxes = next(filter(lacking, names), None)
    if boxes is not None:
        progress.warn(f"letters that the drawing font lacks are boxes in the pictures, as of {boxes!r}; {FILE} has all")
    if own.without is not None:
        progress.warn(f"no maps by gradients: {own.without}")


def _temperature(run: Run, progress: Progress) -> float:
    """That of the run's calibration, so that probabilities are those of `vlmprompt predict`; 1 without."""
    try:
        found = Calibrated.read(run.path, run.digest)
    except InputError as error:
        progress.warn(f"{error.message}; the probabilities are those without it")
        return 1.0
    if found is None:
        return 1.0
    progress.message(found.words)
    return found.temperature


def _extra_figures(run: Run, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Figures of the run as a whole; a damaged log costs these alone."""
    try:
        return extra_figures(run, folder)
    except InputError as error:
        progress.warn(error.told)
        return []


def _chosen(
    wanted: Sequence[tuple[Record, int | None]],
    own: Looking,
    reading: Reading,
    n: int | None,
    which: Which,
    progress: Progress,
) -> Iterator[Seen]:
    """The images to show, read one after the other; of named ones (n is None) all that can be read."""
    seen = reading(wanted)
    if n is not None and which == "mistakes":
        with progress.task("looking for mistakes", None, unit="img") as task:
            yield from mistakes(seen, own.frozen, n, task.advance)
        return
    for count, one in enumerate(seen, 1):
        yield one
        if count == n:  # before another is read
            return


def _baseline(run: Run, backbone: Backbone) -> Looking | None:
    """Zero-shot CLIP over the run's classes; None beside itself."""
    if run.config.method == BASELINE:
        return None
    method = build_method(BASELINE, backbone, run.class_names)
    return Looking.of(CLIP, written_for(method, run.info.data.template).eval())


def _nothing(failed: Sequence[InputError], which: Which) -> InputError:
    """The error where no picture was made."""
    if failed:
        return InputError(f"no image could be read: {failed[0].message}", hint=failed[0].hint)
    assert which == "mistakes"
    return InputError("the run takes no test image for another class", hint="leave --which out, or name images")
