"""Temperature scaling of a run: fitted on its validation images, measured on these and on the test images, and kept.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from vlmprompt.atomic import probe, write_atomic
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.work import shared
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, UsageError
from vlmprompt.evaluation.classified import calibration_of, classified
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.images import Predictions
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.subjects import run_subject
from vlmprompt.predict.calibrated import CALIBRATION_FILE, Calibrated, Measured, Sets, Split
from vlmprompt.predict.conformal import (
    ALPHAS,
    EVERYTHING,
    conformal_summary,
    least_images,
    prediction_sets,
    threshold_of,
)
from vlmprompt.predict.temperature import FEW, ROWS, fit_temperature, scaled
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.own_images import own_images
from vlmprompt.training.runs import Run, load_run

SPLITS: tuple[Split, ...] = ("val", "test")
_WRITE = "free space or change the permissions there"


def calibrate(
    run: Run | Path | str,
    runtime: Runtime | None = None,
    *,
    split: str = "val",
    backbone: Backbone | str | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Fit a temperature to a finished run and keep it in its folder, as `vlmprompt calibrate` does.

    Args:
        split: images to fit on: "val", or "test" for a run that has no others.
        backbone: towers in memory, in place of loading those of the run; or a spec, where their weights are now.

    Raises:
        UsageError: there is no such split.
        InputError: the run, its data or its towers cannot be loaded; it has no images of that split; no
            temperature is best for them (see `fit_temperature`); or the file cannot be written.
    """
    if split not in SPLITS:
        raise UsageError(f"a temperature is fitted on val or test images, not on {split!r}", hint="--split val")
    chosen: Split = "val" if split == "val" else "test"
    run = run if isinstance(run, Run) else load_run(run)
    runtime, progress = runtime or Runtime.model_validate({}), progress or SilentProgress()
    dataset = own_images(run, runtime)
    _require_images(run, dataset, chosen, progress)
    probe(run.path, _WRITE)  # it takes a while until there is something to be written
    towers, spec = (None, backbone) if isinstance(backbone, str) else (backbone, None)
    resources = Resources(runtime, progress, towers, spec=spec)
    with shared(run.path, progress, alone=False):
        found = _fitted(run, resources, dataset, chosen)
        _warn(found, progress)
        content = (found.model_dump_json(indent=2) + "\n").encode()
        write_atomic(run.path / CALIBRATION_FILE, content, make_folder=False, hint=_WRITE)
    return found


def _require_images(run: Run, dataset: Dataset, split: Split, progress: Progress) -> None:
    if split not in dataset.splits and split == "test":
        raise InputError(
            f"{run.info.data.spec} has no test images of run {run.name}'s classes to fit a temperature on",
            hint="add a folder or rows for test",
        )
    if split == "test":
        progress.warn("the temperature is fitted on the test images: what is then measured on them flatters")
    elif "val" not in dataset.splits:
        raise InputError(
            f"run {run.name} has no validation images to fit a temperature on",
            hint="add a folder or rows for val and train again; or fit on the test images, which flatters what is "
            "then measured on them: --split test",
        )


def _fitted(run: Run, resources: Resources, dataset: Dataset, split: Split) -> Calibrated:
    digest = run.digest  # of the checkpoint that is about to be read
    resources.serve(run)
    method = run.build_method(resources.backbone(run.config))
    context = Context(run_subject(run, resources), dataset, resources.bank(run.config))
    own = context.predict(method, dataset, split)
    temperature = fit_temperature(own.logits_BK, own.labels_B)
    fitted_on = _measured(own, dataset, split, temperature)
    other = context.predict(method, dataset, "test") if split == "val" and "test" in dataset.splits else None
    return Calibrated(
        checkpoint=digest,
        temperature=temperature,
        split=split,
        n=fitted_on.n,
        before=fitted_on.before,
        after=fitted_on.after,
        val=tuple(record.id for record in dataset.split("val")) if split == "val" else (),
        test=None if other is None else _measured(other, dataset, "test", temperature),
        conformal=_sets(own, other, temperature) if split == "val" else (),
    )


def _measured(predictions: Predictions, dataset: Dataset, split: str, temperature: float) -> Measured:
    at = Predictions(scaled(predictions.logits_BK, temperature), predictions.labels_B)
    before, after = (calibration_of(classified(one, dataset, split=split)) for one in (predictions, at))
    return Measured(n=len(predictions), before=before, after=after)


def _sets(own: Predictions, test: Predictions | None, temperature: float) -> tuple[Sets, ...]:
    own_true, _ = _probabilities(own, temperature, ())
    if test is None:
        return tuple(Sets(alpha=alpha, threshold=threshold_of(own_true, alpha), n=len(own)) for alpha in ALPHAS)
    thresholds = [threshold_of(own_true, alpha) for alpha in ALPHAS]
    test_true, sizes = _probabilities(test, temperature, thresholds)
    summary = conformal_summary(own_true, test_true)
    return tuple(Sets(**asdict(one), mean_size=size) for one, size in zip(summary, sizes, strict=True))


def _probabilities(
    predictions: Predictions, temperature: float, thresholds: Sequence[float]
) -> tuple[Tensor, list[float]]:
    """Those of right classes (N,), float64, and the mean size of prediction sets at each threshold."""
    true: list[Tensor] = []
    sizes = [0] * len(thresholds)
    chunks = zip(predictions.logits_BK.split(ROWS), predictions.labels_B.split(ROWS), strict=True)
    for logits_NK, labels_N in chunks:
        p_NK = scaled(logits_NK, temperature).softmax(dim=1)
        true.append(p_NK.gather(1, labels_N[:, None])[:, 0])
        sizes = [size + int(prediction_sets(p_NK, at).sum()) for size, at in zip(sizes, thresholds, strict=True)]
    return torch.cat(true), [size / len(predictions) for size in sizes]


def _warn(found: Calibrated, progress: Progress) -> None:
    if found.n < FEW:
        progress.warn(f"the temperature is fitted on {found.n} images; below {FEW} it is a rough guess")
    if found.test is not None and found.test.after["ece_15"] > found.test.before["ece_15"]:
        progress.warn("on the test images the calibration error is larger than before; to do without, remove the file")
    for sets in found.conformal:
        if sets.threshold == EVERYTHING:
            progress.warn(
                f"{sets.n} validation images are too few for prediction sets that miss {sets.alpha:.0%}: they hold all "
                f"classes ({least_images(sets.alpha)} would do)"
            )
