"""A run as a predictor: its method, its temperature, and thresholds set by its own images.

Shapes: N images of the run's data set, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.limits import WORKERS
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record
from vlmprompt.errors import InputError
from vlmprompt.methods.score_config import ScoreOptions, require_options
from vlmprompt.methods.scorer import Scorer, scorer
from vlmprompt.methods.stream_order import is_streamed, stream_order
from vlmprompt.predict.calibrated import LEAVE_OUT, Calibrated
from vlmprompt.predict.conformal import conformal_threshold
from vlmprompt.predict.prediction import SHOWN, probabilities
from vlmprompt.predict.predictor import Predictor, require_score_of
from vlmprompt.predict.rejection import (
    DEFAULT_SCORE,
    Reference,
    Rejection,
    keep_threshold,
    require_alpha,
    require_keep,
    require_score,
)
from vlmprompt.predict.thresholds import SetThreshold, Thresholds
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.own_images import own_images

if TYPE_CHECKING:
    from vlmprompt.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked of a prediction beside classes and probabilities.

    Attributes:
        reject: tell unknown pictures, keeping this share of the run's own images; None: do not.
        score: by which of the scores.
        score_options: of plugins' scores, by name.
        conformal: make prediction sets, of which this share may miss their class; None: do not.
        calibrated: use the temperature of calibration.json where there is one.

    Raises:
        UsageError: a share is none, or there is no such score or option of one.
    """

    reject: float | None = None
    score: str = DEFAULT_SCORE
    score_options: ScoreOptions | None = None
    conformal: float | None = None
    calibrated: bool = True

    def __post_init__(self) -> None:
        require_score(self.score)
        require_options(self.score_options or {})
        if self.reject is not None:
            require_keep(self.reject)
        if self.conformal is not None:
            require_alpha(self.conformal)

    @property
    def scorer(self) -> Scorer | None:
        """Of the score; None where no picture is to be rejected."""
        options = (self.score_options or {}).get(self.score)
        return None if self.reject is None else scorer(self.score, options)


def predictor_of(
    run: Run,
    wishes: Wishes,
    runtime: Runtime,
    *,
    backbone: Backbone | None = None,
    spec: str | None = None,
    batch_size: int | None = None,
    shown: int = SHOWN,
    progress: Progress | None = None,
) -> Predictor:
    """A run's method, ready for pictures.

    Thresholds are kept in the run's folder, for the checkpoint as it is: only where one is new are the images of the
    run's data set read.

    Raises:
        InputError: see `Run.method`; calibration.json is damaged or another checkpoint's; or a threshold is new, and
            the run has no images to set it by.
        CapabilityError: the method cannot give the score.
    """
    progress = progress or SilentProgress()
    calibration = Calibrated.read(run.path, run.digest, LEAVE_OUT) if wishes.calibrated else None
    temperature = 1.0 if calibration is None else calibration.temperature
    kept = Thresholds.read(run.path, run.digest)
    scoring = wishes.scorer
    rejection = None
    if wishes.reject is not None and scoring is not None:
        rejection = kept.rejecting(scoring.label, wishes.reject)
    sets = None if wishes.conformal is None else kept.covering(wishes.conformal, temperature)
    new_rejection = wishes.reject is not None and rejection is None
    new_sets = wishes.conformal is not None and sets is None
    own = OwnImages.of(run, runtime) if new_rejection or new_sets else None  # before the towers are loaded
    score = None if scoring is None else scoring.name
    predictor = Predictor(
        run.frozen(runtime, backbone=backbone, spec=spec, score=score),
        temperature=temperature,
        rejection=rejection,
        scorer=scoring,
        set_threshold=sets,
        batch_size=batch_size or run.config.train.eval_batch_size,
        workers=WORKERS if runtime.workers is None else runtime.workers,
        upright=run.config.exif,
        shown=shown,
        seed=run.config.seed,
    )
    if own is not None:
        found = own.thresholds(predictor, wishes, progress, rejection=new_rejection, sets=new_sets)
        for one in found:
            if isinstance(one, Rejection):
                predictor.rejection = one
            else:
                predictor.set_threshold = one
        _keep(run, found, progress)
    for thing in (calibration, predictor.rejection, predictor.set_threshold):
        if thing is not None:
            progress.message(thing.words)
    return predictor


@dataclass(frozen=True)
class OwnImages:
    """The images of a run's data set that thresholds are set by, labelled as the run's classes are.

    Attributes:
        records: at least one.
        reference: which they are.
        run: its name.
    """

    records: Sequence[Record]
    reference: Reference
    run: str

    @classmethod
    def of(cls, run: Run, runtime: Runtime) -> OwnImages:
        """The validation images of a run; of one that has none, its test images. A stream, where its method adapts.

        Raises:
            InputError: its data are not as they were, or it has neither.
        """
        try:
            splits = own_images(run, runtime).splits
        except InputError as error:
            raise InputError(
                f"run {run.name} has not kept this threshold, and its own images cannot be read: {error.message}",
                hint=error.hint,
            ) from error
        val, test = splits.get("val", ()), splits.get("test", ())
        if not (val or test):
            raise InputError(
                f"{run.info.data.spec} has neither validation nor test images of run {run.name}'s classes to set a "
                "threshold by",
                hint="add a folder or rows for val or test, or leave --reject and --conformal out",
            )
        split = "val" if val else "test"
        records = val or test
        if is_streamed(run.config.method):
            records = tuple(records[i] for i in stream_order(records, split, run.config.seed))
        return cls(records, Reference(split, len(records)), run.name)

    def thresholds(
        self, predictor: Predictor, wishes: Wishes, progress: Progress, *, rejection: bool, sets: bool
    ) -> list[Rejection | SetThreshold]:
        """What they set, in one pass.

        Raises:
            InputError: an image cannot be read, or a score is not finite.
            CapabilityError: the method cannot give the score.
        """
        if self.reference.split == "test":
            progress.warn(
                f"run {self.run} has no validation images: its test images set the threshold, so what is measured on "
                "them with it looks better than it is"
            )
        scoring = predictor.scorer if rejection else None
        if scoring is not None:
            require_score_of(predictor.frozen, scoring)
        scores: list[Tensor] = []
        said: list[Tensor] = []
        labels: list[int] = []
        with progress.task(f"threshold by {self.reference.words}", len(self.records), unit="img") as task:
            for named, output in predictor.outputs(self.records):
                if scoring is not None:
                    scores.append(scoring(output).float().cpu())
                said.append(probabilities(output.logits.float().cpu(), predictor.temperature))
                labels += [record.label for _, record in named]
                task.advance(len(named))
        found: list[Rejection | SetThreshold] = []
        if scoring is not None:
            assert wishes.reject is not None
            scores_N = self._finite(torch.cat(scores), scoring.told)
            threshold = keep_threshold(scores_N.tolist(), wishes.reject)
            found.append(Rejection(scoring.label, wishes.reject, threshold, self.reference))
        if sets:
            assert wishes.conformal is not None
            said_NK = self._finite(torch.cat(said), "the probability")
            threshold = conformal_threshold(said_NK, torch.tensor(labels), wishes.conformal)
            found.append(SetThreshold(wishes.conformal, threshold, predictor.temperature, self.reference))
        return found

    def _finite(self, values: Tensor, what: str) -> Tensor:
        """Values of (N,) or (N,K), known to be neither NaN nor infinite."""
        bad = (~values.reshape(len(values), -1).isfinite().all(dim=1)).nonzero()
        if len(bad):
            name = self.records[int(bad[0])].id
            raise InputError(f"{what} of {name} is not finite, so no threshold is set", hint="look at the image")
        return values


def _keep(run: Run, found: Sequence[Rejection | SetThreshold], progress: Progress) -> None:
    """Keep thresholds beside what others have kept meanwhile.

    A folder that cannot be written to costs the next call the images, and this one nothing.
    """
    try:
        Thresholds.read(run.path, run.digest).with_(*found).write(run.path)
    except InputError as error:
        progress.warn(f"the threshold is not kept: {error.message}")
