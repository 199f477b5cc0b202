"""What a method may ask of training is tried by the doctor, and whatever fails in it is told in the method's name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.training.material import config, registered, runtime
from vlmprompt.api import ParameterGroup
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import PluginError
from vlmprompt.explain.extras import own_tables
from vlmprompt.explain.learned import learned_figures
from vlmprompt.methods.build import description_use
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.trial import try_methods
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

HERE = __name__


class Whole(CoOp):
    """CoOp with every hook of learning, one of which may fail; says which were called."""

    capabilities = CoOp.capabilities | {"fit_first"}
    fit_views, training_views = 2, 2
    searched = ("alpha",)
    reads_unlabelled = True
    broken: ClassVar[str] = ""
    called: ClassVar[list[str]] = []
    alpha: Tensor

    def create(self) -> None:
        super().create()
        self.register_buffer("alpha", torch.zeros(()))

    @classmethod
    def call(cls, hook: str) -> None:
        cls.called.append(hook)
        if hook == cls.broken:
            raise ValueError("a crack")

    @classmethod
    def reads_descriptions(cls, config: MethodConfig) -> Any:
        cls.call("reads_descriptions")
        return "never"

    def fit(self, features: ImageFeatures, labels: Tensor, val: Any) -> Mapping[str, Any]:
        self.call("fit")
        assert len(features) == len(labels)
        return {"views": self.fit_views}

    def parameter_groups(self) -> Mapping[str, ParameterGroup]:
        self.call("parameter_groups")
        return {"ctx": ParameterGroup(lr=2.0)}

    def forward_views(self, views: Sequence[Tensor | ImageFeatures]) -> MethodOutput:
        self.call("forward_views")
        assert len(views) == 2
        return self(views[1])

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        self.call("loss")
        return super().loss(output, labels)

    def unlabelled_loss(self, output: MethodOutput) -> Losses:
        self.call("unlabelled_loss")
        return Losses(output.logits.square().mean())

    def search_on_val(self, features: ImageFeatures, labels: Tensor) -> Mapping[str, Any]:
        self.call("search_on_val")
        return {"alpha": 0.5}

    @classmethod
    def upgrade(
        cls, options: Mapping[str, Any], tensors: Mapping[str, Tensor], version: str | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        cls.call("upgrade")
        return options, tensors

    @classmethod
    def curves(cls, names: Collection[str]) -> Any:
        cls.call("curves")
        return ()

    def learned_tables(self) -> Any:
        self.call("learned_tables")
        return ()


# Hooks that the doctor calls; `reads_descriptions`, `curves` and `learned_tables` are asked elsewhere.
TRIED = (
    "fit",
    "parameter_groups",
    "forward_views",
    "loss",
    "unlabelled_loss",
    "search_on_val",
    "upgrade",
)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    Whole.called.clear()
    with registered("whole", Whole, module=HERE):
        yield


def test_the_doctor_tries_them_all() -> None:
    assert try_methods(["whole", "linear_probe"]) == ({}, {})
    assert set(Whole.called) == set(TRIED)


@pytest.mark.parametrize("hook", TRIED)
def test_the_doctor_names_the_method(hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Whole, "broken", hook)
    failed, _ = try_methods(["whole"])
    told = failed["whole"].message
    assert told.startswith("method 'whole' of plugin 'made-up' (made-up 1.0) failed in Whole.call")
    assert told.endswith("ValueError: a crack")


@pytest.mark.parametrize("hook", ["loss", "fit", "forward_views", "unlabelled_loss", "search_on_val", "upgrade"])
def test_so_does_a_run(
    hook: str, photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Whole, "broken", hook)
    with pytest.raises(PluginError, match=r"method 'whole' .* failed in Whole\.call"):
        out, settings = tmp_path / "run", config(photos, method="whole", shots=1, epochs=1, views=2)
        train(settings, runtime(tmp_path), out=out, backbone=tiny_backbone)
        load_run(out).build_method(tiny_backbone)


@pytest.mark.parametrize("hook", ["loss", "forward_views", "unlabelled_loss"])
def test_and_a_dry_run(
    hook: str, photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Whole, "broken", hook)
    with pytest.raises(PluginError, match=r"method 'whole' .* failed in Whole\.call"):
        dry_run(config(photos, method="whole", shots=1), runtime(tmp_path), backbone=tiny_backbone)


def test_and_whoever_asks_for_descriptions(photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert description_use("whole") == "never"
    settings = config(photos, method="whole", shots=1)
    monkeypatch.setattr(Whole, "broken", "reads_descriptions")
    with pytest.raises(PluginError, match=r"method 'whole' .* failed in Whole\.call"):
        dry_run(settings, runtime(tmp_path))
    monkeypatch.setattr(Whole, "reads_descriptions", lambda config: "sometimes")
    with pytest.raises(PluginError, match="reads_descriptions gives 'sometimes'") as caught:
        description_use("whole")
    assert "allowed: 'never', 'training', 'always'" in str(caught.value.hint)


def test_and_whoever_draws_curves_or_shows_tables(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "run", config(photos, method="whole", shots=1, epochs=1, views=2)
    train(settings, runtime(tmp_path), out=out, backbone=tiny_backbone)
    monkeypatch.setattr(Whole, "broken", "curves")
    with pytest.raises(PluginError, match=r"method 'whole' .* failed in Whole\.call"):
        learned_figures(load_run(out), tmp_path)
    run = load_run(out)
    method = run.build_method(tiny_backbone)
    assert own_tables(run, method) == []
    monkeypatch.setattr(Whole, "broken", "learned_tables")
    with pytest.raises(PluginError, match=r"method 'whole' .* failed in Whole\.call"):
        own_tables(run, method)
