"""A hook of a plugin's method fails while a run is trained or measured: who is named, what is kept, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.main import main
from vlmprompt.errors import PluginError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.linear_probe import LinearProbe
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

ACME = Source("acme", "acme-prompts", "1.2.3")
WHO = "of plugin 'acme' (acme-prompts 1.2.3)"
HOOKS = ("start_epoch", "loss", "observe_gradients", "end_epoch", "diagnostics", "image_extra")


class Cracked(CoOp):
    """CoOp, one hook of which fails."""

    hook: ClassVar[str] = ""

    def fail(self, hook: str) -> None:
        if hook == type(self).hook:
            raise ValueError("a crack")

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.fail("start_epoch")

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        self.fail("loss")
        losses = super().loss(output, labels)
        # A graph that is gone: the slip shows in the backward pass alone, where no line of the method stands.
        return Losses(losses.total.detach()) if type(self).hook == "backward" else losses

    def observe_gradients(self) -> Mapping[str, Tensor]:
        self.fail("observe_gradients")
        return {}

    def end_epoch(self, epoch: int, epochs: int) -> None:
        self.fail("end_epoch")

    def diagnostics(self) -> Mapping[str, float]:
        self.fail("diagnostics")
        return {}

    def image_extra(self, images: Tensor, labels: Tensor | None) -> Mapping[str, Tensor]:
        self.fail("image_extra")
        return {}

    def renew(self, template: str | None) -> None:
        self.fail("renew")


class CrackedProbe(LinearProbe):
    def fit(self, *more: Any) -> Mapping[str, Any]:
        raise ValueError("a crack")


@pytest.fixture(autouse=True)
def methods() -> Iterator[None]:
    options = "vlmprompt.methods.config"
    host().methods.register("cracked", target=f"{__name__}:Cracked", config=f"{options}:CoOpConfig", source=ACME)
    host().methods.register(
        "probe", target=f"{__name__}:CrackedProbe", config=f"{options}:LinearProbeConfig", source=ACME
    )
    yield
    host().methods.withdraw(ACME)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("cracks") / "photos", splits={"train": 3, "test": 1})


@pytest.mark.parametrize("hook", HOOKS)
def test_a_run_ends_in_the_name_of_the_method(
    hook: str, pictures: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cracked, "hook", hook)
    settings = config(pictures, method="cracked", epochs=1, views=1)
    with pytest.raises(PluginError) as caught:
        train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone)
    assert caught.match(r"method 'cracked' .* failed in Cracked.fail \(test_plugin_crashes.py, line \d+\): ValueError")
    assert WHO in caught.value.message and isinstance(caught.value.__cause__, ValueError)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "failed"


def test_a_graph_that_is_gone(
    pictures: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cracked, "hook", "backward")
    with pytest.raises(PluginError, match=r"method 'cracked' .* does not require grad"):
        train(config(pictures, method="cracked", epochs=1), runtime(tmp_path), backbone=tiny_backbone)


def test_a_fit_in_closed_form(pictures: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"method 'probe' .* failed in CrackedProbe.fit .*a crack"):
        train(
            config(pictures, method="linear_probe").model_copy(update={"method": "probe"}),
            runtime(tmp_path),
            backbone=tiny_backbone,
        )


@pytest.mark.usefixtures("tiny_spec")
def test_the_command_ends_with_4_and_shows_the_cause_on_request(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Cracked, "hook", "loss")
    args = ["train", "--method", "cracked", "--data", f"folder:{pictures}", "--backbone", "tiny-vit", "--shots", "3"]
    args += ["--epochs", "1", "--out", str(tmp_path / "run"), "--force"]
    assert main(args) == 4
    said = capsys.readouterr().err
    assert f"error: method 'cracked' {WHO} failed in Cracked.fail" in said
    assert "hint: tell the author of acme-prompts" in said and "Traceback" not in said
    assert main([*args, "--debug"]) == 4
    said = capsys.readouterr().err
    assert 'raise ValueError("a crack")' in said and "direct cause" in said


def test_a_cell_says_who_failed_and_the_others_are_measured(
    pictures: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(pictures, method="cracked", epochs=1)
    run = train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run
    monkeypatch.setattr(Cracked, "hook", "renew")
    rows = evaluate(run, "accuracy", runtime(tmp_path), reference="zeroshot", backbone=tiny_backbone)
    notes = {row.method: (row.status, row.note) for row in rows if row.metric == "top1"}
    assert notes["zeroshot"][0] == "ok"
    status, note = notes["cracked"]
    assert status == "failed" and f"method 'cracked' {WHO} failed in Cracked.fail" in note


def test_what_is_done_with_a_trained_method(
    pictures: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(pictures, method="cracked", epochs=1)
    run = load_run(train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=tiny_backbone).run)
    method = run.build_method(tiny_backbone)
    monkeypatch.setattr(Cracked, "hook", "renew")
    uses: list[Callable[[], object]] = [
        lambda: method.with_classes(["ash", "elm"]),
        lambda: method.copied().with_classes(["ash"]),
    ]
    for use in uses:
        with pytest.raises(PluginError, match=r"failed in Cracked.fail .*a crack"):
            use()
    monkeypatch.setattr(Cracked, "hook", "")
    assert method.frozen()(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 4)
