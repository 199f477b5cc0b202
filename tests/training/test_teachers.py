"""Teachers: loaded once, shared while somebody holds them, and the same ones for the whole life of a run."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from torch.nn import functional as F

from tests.training.material import Hooked, config, registered, runtime
from vlmprompt.api import require_width
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods import teachers
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.trial import try_methods
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.testing import tiny_clip
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

HERE = __name__
NAMES = ("a fox", "a wolf")


class TeacherLoader:
    """Towers of another seed than the tests' own, which may be replaced by others."""

    seed: ClassVar[int] = 7
    loads: ClassVar[list[str]] = []

    def load(self, spec: str, *, device: str, precision: Any, **more: Any) -> Backbone:
        self.loads.append(f"{spec} {device} {precision}")
        model = tiny_clip(seed=self.seed, resnet=spec == "wide").to(device)
        return Backbone.from_model(model, SimpleTokenizer(), name=spec, precision=precision)


class Taught(CoOp):
    """CoOp whose image features are compared with a teacher's, which are computed with them."""

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        if not self.training:
            return {}
        return {"taught": self.teacher("teacher-vit").encode_image(images, ImageNeeds()).global_Bd}

    def classify(self, features: ImageFeatures, text: Any, **more: Any) -> MethodOutput:
        output = super().classify(features, text, **more)
        return MethodOutput(output.logits, output.scale, aux=dict(features.extra))

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        losses = super().loss(output, labels)
        return Losses(losses.total + F.mse_loss(self.ctx.mean(), output.aux["taught"].mean()), losses.parts)


class TaughtEarly(CoOp):
    """Asks for its teacher when it is made, and for one that nobody could load here."""

    spec: ClassVar[str] = "ViT-L-14/openai"

    def create(self) -> None:
        super().create()
        self.width = self.teacher(self.spec).vision.joint_dim


def new_process() -> None:
    """Forget the teachers that are held somewhere, such as in the traceback of an error."""
    teachers._LOADED.clear()


@pytest.fixture(autouse=True)
def _loaders() -> Iterator[None]:
    source = Source("teachers", "teachers", "1.0")
    for name in ("teacher-vit", "wide"):
        host().backbones.register(name, target=f"{HERE}:TeacherLoader", source=source)
    TeacherLoader.loads.clear()
    with registered("taught", Taught, module=HERE):
        yield
    host().backbones.withdraw(source)
    new_process()


def test_it_is_loaded_once_and_only_kept_while_it_is_needed(tiny_backbone: Backbone) -> None:
    one, two = (build_method("taught", tiny_backbone, NAMES, {"n_ctx": 2}) for _ in range(2))
    assert TeacherLoader.loads == []
    teacher = one.teacher("teacher-vit")
    assert teacher is one.teacher("teacher-vit") is two.teacher("teacher-vit")
    assert TeacherLoader.loads == ["teacher-vit cpu fp32"]
    assert list(one.state_dict()) == [name for name, _ in one.named_parameters()] == ["ctx"]
    assert one.teacher("teacher-vit", quick_gelu=True) is not teacher
    del one, two, teacher
    gc.collect()
    build_method("taught", tiny_backbone, NAMES, {"n_ctx": 2}).teacher("teacher-vit")
    assert len(TeacherLoader.loads) == 3


def stopped(photos: Path, backbone: Backbone, out: Path, **changes: Any) -> None:
    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    settings = config(photos, method="taught", views=1, **changes)
    with pytest.raises(KeyboardInterrupt):
        train(settings, runtime(out), out=out, backbone=backbone, progress=Hooked(stop))


def test_a_run_is_not_gone_on_with_under_another_teacher(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out = config(photos, method="taught", views=1), tmp_path / "run"
    whole = train(settings, runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    stopped(photos, tiny_backbone, out)
    digests = Checkpoint.load(out / "checkpoint.safetensors").header.digests
    teacher = TeacherLoader().load("teacher-vit", device="cpu", precision="fp32")
    assert digests["teacher teacher-vit"] == teacher.digest != digests["backbone"]
    new_process()
    with monkeypatch.context() as patched:
        patched.setattr(TeacherLoader, "seed", 8)
        with pytest.raises(InputError) as caught:
            train(settings, runtime(tmp_path), out=out, backbone=tiny_backbone, resume=True)
        assert caught.value.message.startswith("teacher 'teacher-vit' has other weights than the one that the run was")
    new_process()
    train(settings, runtime(tmp_path), out=out, backbone=tiny_backbone, resume=True)
    assert load_run(out).digest == load_run(whole).digest


def test_evaluation_loads_no_teacher_but_knows_it(
    photos: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    train(config(photos, method="taught", views=1, epochs=1), runtime(tmp_path), out=out, backbone=tiny_backbone)
    new_process()
    TeacherLoader.loads.clear()
    method = load_run(out).build_method(tiny_backbone)
    method.frozen()(torch.zeros(1, 3, 32, 32))
    assert TeacherLoader.loads == []
    monkeypatch.setattr(TeacherLoader, "seed", 8)
    with pytest.raises(InputError, match="teacher 'teacher-vit' has other weights"):
        method.teacher("teacher-vit")


def test_errors_name_the_teacher(tiny_backbone: Backbone) -> None:
    method = build_method("taught", tiny_backbone, NAMES, {"n_ctx": 2})
    with pytest.raises(UsageError, match="teacher 'no-such-tower' cannot be loaded"):
        method.teacher("no-such-tower")
    require_width(method.teacher("teacher-vit"), tiny_backbone)
    method.teacher("wide").vision.joint_dim = 48  # type: ignore[misc]
    with pytest.raises(InputError) as caught:
        require_width(method.teacher("wide"), tiny_backbone)
    assert caught.value.message == "teacher 'wide' has features of width 48, and backbone 'tiny-vit' of width 32"


def test_a_trial_loads_none() -> None:
    with registered("early", TaughtEarly, module=HERE):
        failed, untried = try_methods(["early"])
    assert failed == untried == {}
