"""One pass of the image tower over each image for all that a call asks: suites, references and runs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.evaluation.test_ood_suite import make_others
from tests.training.material import config
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data import decoding
from vlmprompt.data.images import read_image
from vlmprompt.data.records import Record
from vlmprompt.evaluation.images import ImageBank
from vlmprompt.evaluation.runner import evaluate_each
from vlmprompt.evaluation.wanted import Wanted
from vlmprompt.methods.build import method_config
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.run import train


class Seen:
    """What is decoded, by file, and how many images go through the tower."""

    def __init__(self, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: Counter[str] = Counter()
        self.through = 0
        enter = backbone.vision._before_last  # type: ignore[attr-defined]

        def counted(images: Tensor, *more: Any) -> Any:
            self.through += len(images)
            return enter(images, *more)

        def read(record: Record) -> Any:
            self.files[str(record.image)] += 1
            return read_image(record)

        monkeypatch.setattr(backbone.vision, "_before_last", counted)
        monkeypatch.setattr(decoding, "read_image", read)


@pytest.fixture
def runs(trained: Path, photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> list[Path]:
    """CoOp, which reads the global feature, and GalLoP, which reads patches before the projection."""
    runs = [Path(shutil.copytree(trained, tmp_path / "runs" / "coop")), tmp_path / "runs" / "gallop"]
    where = Runtime(device="cpu", workers=0, feature_cache="off")
    options = method_config("gallop", {"n_global": 1, "n_local": 1, "topk": [3]}).model_dump(mode="json")
    like = config(photos, shots=1, max_steps=1)
    small = like.model_copy(update={"method": "gallop", "options": options})
    train(small, where, out=runs[1], backbone=tiny_backbone)
    return runs


def measured(runs: Sequence[Path], others: Path, backbone: Backbone, **more: Any) -> list[ResultRow]:
    where = Runtime(device="cpu", workers=0, feature_cache="off")
    wanted = Wanted(companions={"ood": [f"folder:{others}"]}, force=True, **more)
    return evaluate_each(runs, ["accuracy", "ood"], where, wanted, backbone=backbone)


@pytest.mark.parametrize(("which", "reference"), [([0], "zeroshot"), ([1], "linear_probe"), ([0, 1], "zeroshot")])
def test_each_image_goes_through_the_tower_once(
    which: list[int],
    reference: str,
    runs: list[Path],
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others, chosen = make_others(tmp_path, "noise", ["a"]), [runs[i] for i in which]
    with monkeypatch.context() as patch:
        seen = Seen(tiny_backbone, patch)
        rows = measured(chosen, others, tiny_backbone, reference=reference)
    tested = {file: n for file, n in seen.files.items() if "/test/" in file or "/noise/" in file}
    assert len(tested) == 12 + 3 and set(tested.values()) == {1}
    assert seen.through == seen.files.total()  # the rest are images that the probes are fitted on
    with monkeypatch.context() as patch:
        patch.setattr(ImageBank, "_together", lambda self, method, *_: [method])
        patch.setattr(ImageBank, "_from_kept", lambda *_: None)
        apart = Seen(tiny_backbone, patch)
        assert measured(chosen, others, tiny_backbone, reference=reference) == rows
    assert apart.through > seen.through
