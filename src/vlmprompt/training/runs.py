"""Finished runs, to be used and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.names import FOLDER
from vlmprompt.backbones.precision import Precision
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.data.configured import load_run_dataset
from vlmprompt.data.copies import WHOLE, find_copies, in_words, is_published
from vlmprompt.data.records import Dataset
from vlmprompt.describe.library import DescriptionFile, describe
from vlmprompt.errors import InputError
from vlmprompt.methods.build import build_method, written_for
from vlmprompt.methods.classifier import Classifier
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.methods.score_config import ScoreOptions
from vlmprompt.methods.texts import require_texts_fit
from vlmprompt.predict.prediction import SHOWN, Prediction
from vlmprompt.predict.predictor import Predictor, scoring
from vlmprompt.predict.rejection import DEFAULT_SCORE
from vlmprompt.training.checkpoint import file_digest
from vlmprompt.training.device import resolve_device
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.made_by import require_package
from vlmprompt.training.places import finished_runs, no_run, require_run
from vlmprompt.training.predicting import Wishes, predictor_of
from vlmprompt.training.run_info import RunInfo
from vlmprompt.training.same_towers import require_same
from vlmprompt.training.upgraded import load_state, upgraded, upgraded_config


@dataclass(frozen=True, repr=False)
class Run:
    """A run on disk.

    Attributes:
        path: its folder.
        info: the content of run.json.
    """

    path: Path
    info: RunInfo

    def __repr__(self) -> str:
        config = self.config
        what = f"{config.method} on {config.data}, {len(self.class_names)} classes, {config.backbone}"
        return f"Run({str(self.path)!r}: {what}, {self.info.status})"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @cached_property
    def config(self) -> RunConfig:
        """What determined it, its method's options under the names of today."""
        return upgraded_config(self.info, RunFolder(self.path).checkpoint)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The label space that it was trained on."""
        return self.info.class_names

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the checkpoint's bytes: equal runs have equal digests."""
        return file_digest(RunFolder(self.path).checkpoint)

    def load_dataset(self, runtime: Runtime | None = None, *, allow_overlap: bool = False) -> Dataset:
        """The whole data set of the run as it is now, with all its classes and, if it read any, their descriptions.

        Args:
            allow_overlap: accept test images that the run has seen in training.

        Raises:
            InputError: its classes are others than in training, or images that were trained on are test images now.
        """
        config = self.config
        require_package(self.info)
        dataset = load_run_dataset(config, None if runtime is None else runtime.root)
        labels, classes = self.info.data.labels, self.info.data.classes
        names = dataset.class_names
        if len(names) != classes or tuple(names[label] for label in labels) != self.class_names:
            raise InputError(
                f"data set {config.data!r} has other classes than when run {self.name} was trained",
                hint="restore it, train again, or measure on other data: 'vlmprompt evaluate RUN --data SPEC'",
            )
        doubtful = self.has_changed(dataset) or len(dataset.splits.get("test", ())) <= WHOLE
        if doubtful and not allow_overlap and (seen := self.seen_among(dataset, dataset)):
            raise InputError(seen, hint="take them out, train again, or accept it: --allow-overlap")
        return self.described(dataset)

    def has_changed(self, dataset: Dataset) -> bool:
        """Whether its data set lists other images than in training."""
        return dataset.digest != self.info.data.digest

    def described(self, dataset: Dataset) -> Dataset:
        """A data set of the run's classes with the descriptions that the run read, if it read any."""
        return dataset if self.descriptions is None else describe(dataset, self.descriptions)

    def seen_among(self, own: Dataset, measured: Dataset) -> str | None:
        """Which test images of some data the run was trained on, or chose by, in words; None where there are none.

        What was accepted in training, or is so in a published split, does not count.

        Args:
            own: the run's data set as it is now, where the images that it has seen are looked for.
        """
        if self.config.allow_overlap or is_published(own):
            return None
        drawn = {*self.info.data.train_ids, *self.info.data.val_ids}
        if self.info.data.unlabelled:  # which are not listed: any image of the training split may be one
            drawn |= {record.id for record in own.splits.get("train", ())}
        records = [record for split in own.splits.values() for record in split if record.id in drawn]
        parts = {"seen in training": records, "test": measured.splits.get("test", ())}
        found = [copies for copies in find_copies(parts, among=["seen in training"]) if copies.across]
        where = f"among the test images of {measured.spec} that run {self.name} has seen in training"
        return in_words(found, where) if found else None

    @cached_property
    def descriptions(self) -> DescriptionFile | None:
        """The run's own copy of the descriptions that it read; None where its method reads none.

        Raises:
            InputError: the copy is gone or changed.
        """
        if self.info.descriptions is None:
            return None
        file = DescriptionFile.read(RunFolder(self.path).descriptions)
        if file.digest != self.info.descriptions.digest:
            raise InputError(f"{file.path} is not what run {self.name} was trained on", hint="train again")
        return replace(file, path=Path(self.info.descriptions.file))

    def load_backbone(
        self, runtime: Runtime | None = None, *, spec: str | None = None, precision: Precision | None = None
    ) -> Backbone:
        """The towers of the run.

        Args:
            spec: where their weights are now, in place of where they were in training.
            precision: None: that of the training.

        Raises:
            InputError: their weights are not there, or not those of the training.
        """
        config = self.config
        require_package(self.info)
        backbone = load_backbone(
            spec or self.backbone_spec(),
            device=str(resolve_device((runtime or Runtime.model_validate({})).device)),
            precision=precision or config.train.precision,
            quick_gelu=config.quick_gelu,
            random_weights=config.random_weights,
            image_size=config.image_size,
        )
        self.require_backbone(backbone)
        return backbone

    def backbone_spec(self) -> str:
        """What to load its towers by: with the path in training if there still is such, or else as it was given."""
        spec, file = self.config.backbone, self.info.backbone.file
        if file is None or not Path(file).exists():
            return spec
        return f"{FOLDER}{file}" if spec.startswith(FOLDER) else f"{spec.partition('/')[0]}/{file}"

    def build_method(self, backbone: Backbone) -> PromptMethod:
        """The trained method over its own label space, in eval mode.

        Raises:
            InputError: the run is not finished, its checkpoint is damaged or another run's, or it was trained on other
                towers.
        """
        self.require_finished()
        require_package(self.info)
        self.require_backbone(backbone)
        config = self.config
        # By name: in training the file was held against the whole list of classes, which may be longer.
        texts = None if self.descriptions is None else self.descriptions.texts_by_name(self.class_names)
        template = self.info.data.template
        method = build_method(
            config.method, backbone, self.class_names, config.options, descriptions=texts, template=template
        )
        method = written_for(method, template)
        require_texts_fit(method)
        load_state(method, upgraded(RunFolder(self.path).load(self.info)))
        return method.eval()

    def method(
        self, runtime: Runtime | None = None, *, backbone: Backbone | None = None, spec: str | None = None
    ) -> PromptMethod:
        """The trained method over its own label space; towers are loaded at the first call and kept with the run.

        Args:
            backbone: the run's towers, if they are in memory already.
            spec: where their weights are now.

        Raises:
            InputError: see `load_backbone` and `build_method`.
        """
        key = id(backbone), spec, None if runtime is None else runtime.device
        if key not in self._methods:
            towers = self.load_backbone(runtime, spec=spec) if backbone is None else backbone
            self._methods[key] = self.build_method(towers)
        return self._methods[key]

    def frozen(
        self,
        runtime: Runtime | None = None,
        *,
        backbone: Backbone | None = None,
        spec: str | None = None,
        score: str | None = None,
    ) -> FrozenMethod:
        """The same for inference alone, the text of its classes encoded at the first call.

        Args:
            score: a score that it is to give, of which some read local features.
        """
        method = scoring(self.method(runtime, backbone=backbone, spec=spec), score)
        key = id(method.backbone), method.image_needs().local is not None
        if key not in self._frozen:
            self._frozen[key] = method.frozen()
        return self._frozen[key]

    @cached_property
    def _methods(self) -> dict[tuple[int, str | None, str | None], PromptMethod]:
        return {}

    @cached_property
    def _frozen(self) -> dict[tuple[int, bool], FrozenMethod]:
        return {}

    def predictor(
        self, runtime: Runtime | None = None, *, backbone: Backbone | None = None, top: int = SHOWN, **wishes: Any
    ) -> Predictor:
        """What `predict` asks, for streams of pictures: `predictor.batches(pictures)`.

        Args:
            wishes: see `predict`.
        """
        runtime = runtime or Runtime.model_validate({})
        return predictor_of(self, Wishes(**wishes), runtime, backbone=backbone, shown=top)

    def predict(
        self,
        images: Any,
        *,
        top: int = SHOWN,
        reject: float | None = None,
        score: str = DEFAULT_SCORE,
        score_options: ScoreOptions | None = None,
        conformal: float | None = None,
        calibrated: bool = True,
        runtime: Runtime | None = None,
        backbone: Backbone | None = None,
    ) -> Prediction:
        """What pictures show, as `vlmprompt predict` says it.

        Args:
            images: a path, a PIL image, an array, or any number of these; see `Classifier`.
            top: classes of a picture to show.
            reject: tell pictures of unknown things, at the threshold that keeps this share of the run's validation
                images (0.95).
            score: by which of the scores of `ood_scores`.
            score_options: options of plugins' scores, by name.
            conformal: make prediction sets, of which this share may miss their class (0.1).
            calibrated: use the temperature of calibration.json where there is one.

        Raises:
            InputError: a picture cannot be read; see also `method` and `predictor_of`.
            UsageError: a share is none, or there is no such score or option of one.
        """
        wishes: dict[str, Any] = {"reject": reject, "score": score, "conformal": conformal, "calibrated": calibrated}
        wishes["score_options"] = score_options
        return self.predictor(runtime, backbone=backbone, top=top, **wishes)(images)

    def classifier(self, backbone: Backbone | None = None, runtime: Runtime | None = None) -> Classifier:
        """The trained method as one callable, pictures in and classes out; the classes' text is encoded once.

        Args:
            backbone: the run's towers, if they are in memory already.

        Raises:
            InputError: see `load_backbone` and `build_method`.
        """
        towers = self.load_backbone(runtime) if backbone is None else backbone
        train, upright = self.config.train, self.config.exif
        method, seed = self.build_method(towers), self.config.seed
        return Classifier(method, batch_size=train.eval_batch_size, upright=upright, seed=seed)

    def require_finished(self) -> None:
        """Refuse a run that has no trained method yet.

        Raises:
            InputError: says how to go on with it.
        """
        if self.info.status != "finished":
            raise InputError(
                f"run {self.name} is not finished ({self.info.status})",
                hint="go on with it: the same train command with --resume",
            )

    def require_backbone(self, backbone: Backbone) -> None:
        """Refuse towers that are not those of the training, wherever they lie.

        Raises:
            InputError: see `require_same`.
        """
        require_same(backbone, self.info.backbone, self.name)


def load_run(path: Path | str) -> Run:
    """A run by its folder.

    Raises:
        InputError: there is no run.
    """
    path = Path(path)
    require_run(path)
    return Run(path, RunInfo.read(path))


def find_runs(runs_dir: Path) -> list[Run]:
    """The finished runs in a folder, the newest first; damaged ones are left out."""
    return list(_finished(runs_dir))


def newest_run(runs_dir: Path) -> Path:
    """The folder of the run that finished last; older ones are not read.

    Raises:
        InputError: none has.
    """
    newest = next(_finished(runs_dir), None)
    if newest is None:
        raise no_run(runs_dir)
    return newest.path


def _finished(runs_dir: Path) -> Iterator[Run]:
    for folder in finished_runs(runs_dir):
        try:
            run = Run(folder, RunInfo.read(folder))
        except InputError:
            continue
        if run.info.status == "finished":
            yield run
