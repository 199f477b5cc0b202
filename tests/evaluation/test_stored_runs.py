"""A run with the store of features is the run without it, to the byte, and so are its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import Hooked, config
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.store import plan
from vlmprompt.config.models import Runtime
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.training.run import train


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files of four images."""
    monkeypatch.setattr(plan, "SHARD_ROWS", 4)
    return iter([None])


def test_checkpoint_and_rows_are_those_without_it(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos, views=2, shots=3, epochs=2, eval_batch_size=4, validate_every=1)
    found: list[Any] = []
    for name, store in (("off", "off"), ("empty", tmp_path / "store"), ("filled", tmp_path / "store")):
        progress, where = Hooked(), Runtime(device="cpu", workers=0, runs_dir=tmp_path, feature_cache=store)
        run = train(settings, where, out=tmp_path / name / "run", backbone=tiny_backbone, progress=progress).run
        rows = evaluate(run, "accuracy", where, backbone=tiny_backbone, reference="zeroshot", progress=progress)
        found.append(((run / "checkpoint.safetensors").read_bytes(), rows))
    assert found[0] == found[1] == found[2]
    assert all(row.status == "ok" for row in rows)
    assert not any("computing features" in text for text in progress.messages)  # the last read all


def test_rounded_features_are_told_apart(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    where = Runtime(device="cpu", workers=0, runs_dir=tmp_path)
    half = where.model_copy(update={"feature_dtype": "bf16"})
    run = train(config(photos, views=1, shots=1, epochs=1), half, out=tmp_path / "run", backbone=tiny_backbone)
    assert ", rounded to bf16" in (run.run / "run.json").read_text()
    exact, rounded = (
        evaluate(run.run, "accuracy", r, backbone=tiny_backbone, reference="linear_probe") for r in (where, half)
    )
    assert {row.key for row in exact}.isdisjoint(row.key for row in rounded)
    assert {row.setup.get("features") for row in rounded} == {"bf16"}
    assert all("features" not in row.setup for row in exact)
    assert len(list((run.run / "references").glob("linear_probe-*"))) == 2
