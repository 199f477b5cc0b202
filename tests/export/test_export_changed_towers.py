"""Runs that change weights of the towers: as folders of open_clip with these weights, as graphs, never as a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from tests.export.tables import of_graph
from tests.tiny_architectures import register
from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.deltas import Bottleneck, TowerDeltas
from vlmprompt.backbones.types import VisualPrompts
from vlmprompt.errors import CapabilityError
from vlmprompt.export.linear_head import TO_ONNX
from vlmprompt.export.work import export_run
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


@pytest.fixture(scope="module")
def lora_run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Both towers changed, of an architecture that open_clip knows."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = register(tmp_path_factory.mktemp("architectures"), patch)
        settings = config(class_folders, backbone=tiny, random_weights=0, exif=False)
        options = method_config("clip_lora", {"params": ["q", "k", "v", "o"]}).model_dump(mode="json")
        settings = settings.model_copy(update={"method": "clip_lora", "options": options})
        yield load_run(train(settings, runtime(tmp_path_factory.mktemp("runs"))).run)


def test_open_clip_alone_computes_what_the_run_computes(lora_run: Run, tmp_path: Path) -> None:
    done = export_run(lora_run, "open_clip", tmp_path / "model")
    assert done.difference < 1e-4
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    method = lora_run.build_method(lora_run.load_backbone()).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    texts = open_clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in method.class_names])
    with torch.no_grad():
        ours, plain = method.encode_images(images).global_Bd, method.backbone.encode_image(images).global_Bd
        torch.testing.assert_close(model.eval().encode_image(images), ours, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.encode_text(texts), method.encode_text().features_PKd[0], rtol=1e-5, atol=1e-5)
    assert (ours - plain).abs().max() > 1e-3 * plain.abs().max()
    assert "what it changes in the towers in their weights" in (tmp_path / "model/README.md").read_text()


def test_class_embeddings_alone_are_not_enough(lora_run: Run, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="it changes weights of the image tower") as caught:
        export_run(lora_run, "safetensors", tmp_path / "x.safetensors")
    assert caught.value.hint == f"{TO_ONNX}; or with the changed towers: --to open_clip"


def test_a_bottleneck_is_no_weight(lora_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bottleneck = {0: {"adapter_mlp": Bottleneck(torch.ones(2, 64), 0.01 * torch.ones(64, 2))}}

    def visual_prompts(method: Any, **_: Any) -> VisualPrompts:
        return VisualPrompts(deltas=TowerDeltas(bottleneck))

    from vlmprompt_adapters.clip_lora import CLIPLoRA

    monkeypatch.setattr(CLIPLoRA, "visual_prompts", visual_prompts)
    with pytest.raises(CapabilityError, match="a bottleneck stands beside them"):
        export_run(lora_run, "open_clip", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_graph_holds_the_changed_tower(tiny_backbone: Backbone, tmp_path: Path) -> None:
    method = build_method("clip_lora", tiny_backbone, ["cat", "oak"])
    g = torch.Generator().manual_seed(3)
    for parameter in method.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=g)
    assert of_graph(method.frozen(), "clip_lora", tmp_path, sizes=(3,)).relative < 1e-5
