"""Photos, trained runs and exports that the tests of exporting share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from tests.export.material import photographs
from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.export import graph
from vlmprompt.export.about import about
from vlmprompt.export.work import Exported, export_run
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.plugins import host
from vlmprompt.registry import Source
from vlmprompt.testing import tiny_clip
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run


@pytest.fixture(scope="session")
def tiny_model() -> torch.nn.Module:
    """A ViT CLIP of one layer: to trace a layer takes a second."""
    return tiny_clip(vision_layers=1, text_layers=1)


@pytest.fixture(scope="session")
def tiny_backbone(tiny_model: torch.nn.Module, tokenizer: open_clip.SimpleTokenizer) -> Backbone:
    """That CLIP behind the engines."""
    return Backbone.from_model(tiny_model, tokenizer, name="tiny-vit")


@pytest.fixture
def tiny_spec() -> Iterator[None]:
    """Makes it known to `--backbone tiny-vit`."""
    source = Source("tiny", "tiny", "1.0")
    host().backbones.register("tiny-vit", target="tests.export.material:SmallLoader", source=source)
    yield
    host().backbones.withdraw(source)


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 3 train and 2 test images each."""
    return make_photos(tmp_path_factory.mktemp("export") / "photos", splits={"train": 3, "test": 2})


@pytest.fixture(scope="session")
def coop_run(class_folders: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """CoOp on a tiny ViT; copy it before anything is written into it."""
    runs = runtime(tmp_path_factory.mktemp("coop"))
    return load_run(train(config(class_folders), runs, backbone=tiny_backbone).run)


@pytest.fixture(scope="session")
def pictures_of_every_make(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """See `photographs`."""
    return photographs(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def onnx_export(coop_run: Run, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """That run as an ONNX file; not to be changed."""
    place = tmp_path_factory.mktemp("onnx") / "foxes.onnx"
    return export_run(coop_run, "onnx", place, backbone=tiny_backbone)


@pytest.fixture(scope="session")
def traced_program(coop_run: Run, tiny_backbone: Backbone) -> Any:
    """That run's graph, traced."""
    subject = coop_run.build_method(tiny_backbone).frozen()
    return graph.traced(subject, "coop", about(coop_run, subject, None))


@pytest.fixture
def traced_once(traced_program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To trace takes seconds: here it is done once, and what the file says of itself is set each time."""

    def again(frozen: FrozenMethod, name: str, said: Mapping[str, str]) -> Any:
        traced_program.model.metadata_props.clear()
        traced_program.model.metadata_props.update(said)
        return traced_program

    monkeypatch.setattr(graph, "traced", again)
