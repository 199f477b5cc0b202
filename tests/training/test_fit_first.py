"""A fit before the loop: what it is given, that the loop starts from it, and that a resumed run does not repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.training.material import Hooked, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.features import extract
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds
from vlmprompt.config.models import RunConfig
from vlmprompt.data.images import read_image
from vlmprompt.errors import CapabilityError, PluginError, VlmPromptError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

HERE = __name__
Given = tuple[ImageFeatures, Tensor, tuple[ImageFeatures, Tensor] | None]


class Started(CoOp):
    """CoOp from a start that is written down, one random number having been drawn."""

    def create(self) -> None:
        super().create()
        self.start()

    def start(self) -> int:
        with torch.no_grad():
            self.ctx.copy_(torch.linspace(-0.05, 0.05, self.ctx.numel()).reshape(self.ctx.shape))
        return int(torch.randint(1000, (), generator=self.generator))

    def text_prompts(self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None) -> Any:
        noise = draws["noise"] if draws else 0.0
        prompts = super().text_prompts()
        return type(prompts)(prompts.ctx + noise)

    def sample_draws(self) -> Mapping[str, Tensor]:
        return {"noise": 0.01 * torch.randn(1, generator=self.generator)}


class Fitted(Started):
    """The same start, but found by a fit."""

    capabilities = CoOp.capabilities | {"fit_first"}
    given: ClassVar[list[Given]] = []
    broken: ClassVar[bool] = False

    def create(self) -> None:
        CoOp.create(self)

    def fit(
        self, features: ImageFeatures, labels: Tensor, val: tuple[ImageFeatures, Tensor] | None
    ) -> Mapping[str, Any]:
        assert self.training
        self.given.append((features, labels, val))
        return {"images": len(labels), "drawn": self.start()}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        if self.broken:
            raise ValueError("a crack")


class InPlace(Fitted):
    """Is fitted on two random views, and has no loop."""

    capabilities = frozenset({"new_classes", "closed_form"})

    @property
    def fit_views(self) -> int:  # type: ignore[override]
        return 2


@pytest.fixture(autouse=True)
def _forget() -> None:
    Fitted.given.clear()


def trained(
    folder: Path, photos: Path, backbone: Backbone, cls: type[CoOp], *, progress: Hooked | None = None, **changes: Any
) -> Run:
    """A run of a method of this module, gone on with where it has begun."""
    with registered("under_test", cls, module=HERE):
        settings: RunConfig = config(photos, method="under_test", **{"views": 1, **changes})
        place = folder / cls.__name__
        done = train(settings, runtime(folder), out=place, backbone=backbone, resume="maybe", progress=progress)
        return load_run(done.run)


def state_of(run: Run) -> Mapping[str, Tensor]:
    return Checkpoint.load(run.path / "checkpoint.safetensors").state


@pytest.mark.parametrize("views", [0, 1])
def test_the_loop_starts_from_the_fit(photos: Path, tiny_backbone: Backbone, tmp_path: Path, views: int) -> None:
    fitted = trained(tmp_path, photos, tiny_backbone, Fitted, views=views)
    started = trained(tmp_path, photos, tiny_backbone, Started, views=views)
    assert torch.equal(state_of(fitted)["ctx"], state_of(started)["ctx"]) and started.info.fit == {}
    assert fitted.info.fit["images"] == 12 and fitted.info.metrics["steps"] == 9
    assert fitted.info.features.endswith("before the loop a fit on features of one deterministic view of each image, "
                                         "computed once")  # fmt: skip
    [(features, labels, val)] = Fitted.given
    with registered("under_test", Fitted, module=HERE):
        shots = {record.id: record for record in fitted.load_dataset().splits["train"]}
    for row, name in enumerate(fitted.info.data.train_ids):
        image = tiny_backbone.transform(train=False)(read_image(shots[name]))[None]
        expected = tiny_backbone.encode_image(image, ImageNeeds()).global_Bd[0]
        torch.testing.assert_close(features.global_Bd[row], expected)
        assert labels[row] == shots[name].label
    assert val is not None and len(val[0]) == len(val[1]) == len(fitted.info.data.val_ids) == 8


def test_there_may_be_no_validation_images(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    trained(tmp_path, photos, tiny_backbone, Fitted, shots=5, epochs=1)
    [(_, labels, val)] = Fitted.given
    assert len(labels) == 20 and val is None


@pytest.mark.parametrize("cls", [Fitted, InPlace])
def test_random_views_one_after_the_other(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, cls: type[Fitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    if cls is Fitted:
        monkeypatch.setattr(cls, "fit_views", 2)
    run = trained(tmp_path, photos, tiny_backbone, cls, epochs=1)
    [(features, labels, _)] = Fitted.given
    with registered("under_test", cls, module=HERE):
        records = {record.id: record for record in run.load_dataset().splits["train"]}
    shots = [records[name] for name in run.info.data.train_ids]
    method = build_method("coop", tiny_backbone, run.class_names)
    expected = extract(method, shots, backbone=tiny_backbone, runtime=runtime(tmp_path), views=2, seed=1)
    torch.testing.assert_close(features.global_Bd, expected.features.global_Bd)
    assert not torch.allclose(features.global_Bd[:12], features.global_Bd[12:], atol=1e-3)
    assert labels.tolist() == 2 * [record.label for record in shots]
    assert "2 recorded random views" in run.info.features and run.info.fit["images"] == 24


@pytest.mark.parametrize("stop_at", [0, 4])
def test_a_resumed_run_does_not_fit_again(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    whole = trained(tmp_path / "whole", photos, tiny_backbone, Fitted)

    def interrupt(step: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fitted, "broken", stop_at == 0)  # before the first step
    with pytest.raises((KeyboardInterrupt, PluginError, ValueError)):
        trained(tmp_path, photos, tiny_backbone, Fitted, progress=Hooked(interrupt))
    monkeypatch.setattr(Fitted, "broken", False)
    assert load_run(tmp_path / "Fitted").info.fit == whole.info.fit
    resumed = trained(tmp_path, photos, tiny_backbone, Fitted)
    assert len(Fitted.given) == 2 and resumed.digest == whole.digest and resumed.info.fit == whole.info.fit


def test_the_dry_run_counts_the_features_of_the_fit(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with registered("under_test", Fitted, module=HERE):
        report = dry_run(config(photos, method="under_test"), runtime(tmp_path), backbone=tiny_backbone)
        both = dry_run(config(photos, method="under_test", views=3), runtime(tmp_path), backbone=tiny_backbone)
    assert report["cache"] == 4 * 12 * 32 and both["cache"] == 4 * 12 * 32 * (1 + 3)
    assert "before the loop a fit" in report["features"] and not Fitted.given


class Twofold(Fitted):
    capabilities = Fitted.capabilities | {"closed_form"}


class Unwritten(CoOp):
    capabilities = CoOp.capabilities | {"fit_first"}


class Viewless(Fitted):
    fit_views = 0


class Through(Fitted):
    def image_needs(self) -> ImageNeeds:
        return ImageNeeds(grad=True)


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        (Twofold, PluginError, "capabilities holds 'closed_form' and 'fit_first'"),
        (Unwritten, PluginError, "capabilities holds 'fit_first', but there is no fit"),
        (Viewless, PluginError, "fit_views = 0 is no number of views"),
        (Through, CapabilityError, "that needs the capability 'feature_cache', and no gradients through the tower"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(
    tiny_backbone: Backbone, cls: type[CoOp], error: type[VlmPromptError], message: str
) -> None:
    with registered("under_test", cls, module=HERE), pytest.raises(error) as caught:
        build_method("under_test", tiny_backbone, ("a fox", "a wolf"))
    assert message in caught.value.message and "of plugin 'made-up' (made-up 1.0)" in caught.value.message


@pytest.mark.parametrize(
    ("record", "message"),
    [(None, "gives a NoneType as what fit found"), ({"C": torch.ones(2)}, "gives a Tensor as 'C' of what fit found")],
)
def test_a_record_is_plain_values(
    photos: Path,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: object,
    message: str,
) -> None:
    monkeypatch.setattr(Fitted, "fit", lambda *_: record)
    with pytest.raises(PluginError) as caught:
        trained(tmp_path, photos, tiny_backbone, Fitted)
    assert message in caught.value.message
