"""What a method chooses on validation images: when, on which, how it is kept and said, and that it can be left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.training.material import Hooked, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds
from vlmprompt.errors import CapabilityError, InputError, PluginError, VlmPromptError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.training.dry_run import dry_run, report_lines
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

HERE = __name__
SHIFTS = (0.25, 0.5, 0.75)


class Searching(CoOp):
    """CoOp with a number that is chosen on validation images: what is nearest to the mean of their first feature."""

    searched = ("shift",)
    shift: Tensor
    calls: ClassVar[list[tuple[ImageFeatures, Tensor]]] = []

    def create(self) -> None:
        super().create()
        self.register_buffer("shift", torch.zeros(()))

    def search_on_val(self, features: ImageFeatures, labels: Tensor) -> Mapping[str, Any]:
        assert not self.training and not torch.is_grad_enabled()
        self.calls.append((features, labels))
        mean = float(features.global_Bd[:, 0].mean())
        chosen = min(SHIFTS, key=lambda shift: abs(shift - mean))
        self.shift.fill_(chosen)
        return {"shift": chosen, "tried": list(SHIFTS)}


class InPlace(Searching):
    """The same, fitted in closed form."""

    capabilities = frozenset({"new_classes", "feature_cache", "closed_form"})
    vals: ClassVar[list[Any]] = []

    def fit(self, features: ImageFeatures, labels: Tensor, val: Any) -> Mapping[str, Any]:
        self.vals.append(val)
        return {}


@pytest.fixture(autouse=True)
def _forget() -> None:
    Searching.calls.clear()
    InPlace.vals.clear()


def trained(
    folder: Path, photos: Path, backbone: Backbone, cls: type[CoOp], *, progress: Any = None, **changes: Any
) -> Run:
    with registered("under_test", cls, module=HERE):
        settings = config(photos, method="under_test", **{"views": 1, "epochs": 1, **changes})
        done = train(settings, runtime(folder), out=folder / "run", backbone=backbone, progress=progress)
        return load_run(done.run)


@pytest.mark.parametrize("cls", [Searching, InPlace])
def test_what_is_chosen_is_kept_and_said(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, cls: type[Searching]
) -> None:
    run = trained(tmp_path, photos, tiny_backbone, cls)
    [(features, labels)] = Searching.calls
    assert len(labels) == len(run.info.data.val_ids) == 8
    mean = float(features.global_Bd[:, 0].mean())
    chosen = min(SHIFTS, key=lambda shift: abs(shift - mean))
    said = json.loads((run.path / "run.json").read_text())["search"]
    found = {"shift": chosen, "tried": [0.25, 0.5, 0.75]}
    assert said == {"names": ["shift"], "val_images": 8, "found": found}
    with registered("under_test", cls, module=HERE):
        assert float(run.build_method(tiny_backbone).trainable_state()["shift"]) == chosen
    assert f"| chosen | shift = {chosen}, on 8 validation images |" in (run.path / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("cls", [Searching, InPlace])
def test_without_the_search(photos: Path, tiny_backbone: Backbone, tmp_path: Path, cls: type[Searching]) -> None:
    run = trained(tmp_path, photos, tiny_backbone, cls, val_search=False)
    assert not Searching.calls and run.info.search is None and InPlace.vals == [None] * (cls is InPlace)
    with registered("under_test", cls, module=HERE):
        assert float(run.build_method(tiny_backbone).trainable_state()["shift"]) == 0.0


def test_the_probe_takes_its_default_without_validation_images(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    settings = config(photos, method="linear_probe", val_search=False)
    run = load_run(train(settings, runtime(tmp_path), backbone=tiny_backbone).run)
    assert run.info.fit["C"] == 0.316 and run.info.fit["C_source"] == "default: no validation images"


def test_a_search_is_repeated_where_it_was_stopped(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", photos, tiny_backbone, Searching)

    def stop(*more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Searching, "search_on_val", stop)
        trained(tmp_path, photos, tiny_backbone, Searching)
    with registered("under_test", Searching, module=HERE):
        settings = config(photos, method="under_test", views=1, epochs=1)
        train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone, resume=True)
    assert load_run(tmp_path / "run").digest == whole.digest


def test_no_validation_images_is_an_error_before_training(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        trained(tmp_path, photos, tiny_backbone, Searching, shots=5)
    assert "chooses shift on validation images, and this run of folder:" in caught.value.message
    assert "--no-val-search" in str(caught.value.hint) and not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "shift will be chosen on 8 validation images, after training"),
        ({"val_search": False}, "--no-val-search: the method gets none of the 8 validation images"),
    ],
)
def test_the_dry_run_says_what_they_are_for(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with registered("under_test", Searching, module=HERE):
        report = dry_run(config(photos, method="under_test", **changes), runtime(tmp_path), backbone=tiny_backbone)
    assert f"val use   {words}" in report_lines(report)


def test_what_leaving_it_out_does_not_do_is_said(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    class Listening(Hooked):
        def warn(self, text: str) -> None:
            self.message(text)

    said = Listening()
    trained(
        tmp_path, photos, tiny_backbone, CoOp, progress=said, val_search=False, validate_every=1, keep="best", epochs=1
    )
    assert "method 'under_test' chooses nothing on validation images: --no-val-search has no effect" in said.messages
    assert any(text.startswith("keep = best still uses the validation images") for text in said.messages)


class Free(Searching):
    capabilities = frozenset({"new_classes", "feature_cache", "training_free"})


class Unwritten(CoOp):
    searched = ("alpha",)


class OneName(Searching):
    searched = "shift"


class Through(Searching):
    def image_needs(self) -> ImageNeeds:
        return ImageNeeds(grad=True)


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        (Free, PluginError, "capabilities holds 'training_free', but searched names what it chooses"),
        (Unwritten, PluginError, "searched = ('alpha',), but there is no search_on_val"),
        (OneName, PluginError, "searched = 'shift' is no set of names"),
        (Through, CapabilityError, "chooses shift on features of images that are computed once"),
    ],
)
def test_what_cannot_be_searched(
    tiny_backbone: Backbone, cls: type[CoOp], error: type[VlmPromptError], message: str
) -> None:
    with registered("under_test", cls, module=HERE), pytest.raises(error) as caught:
        build_method("under_test", tiny_backbone, ("a fox", "a wolf"))
    assert message in caught.value.message


def test_every_name_has_its_value(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Searching, "search_on_val", lambda *_: {"shfit": 1.0})
    with pytest.raises(PluginError, match="searches 'shift', but search_on_val gives 'shfit'"):
        trained(tmp_path, photos, tiny_backbone, Searching, epochs=1)
