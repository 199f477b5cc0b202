"""How alike prompts are: counted by hand, and on methods with several prompts, one, and none."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.evaluation.material import patches
from tests.evaluation.test_context import make_bank, make_context
from tests.training.material import runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.failures import incomplete
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.suites.prompts import PromptsSuite, mean_cosine
from vlmprompt.methods.build import build_method
from vlmprompt.plugins import host
from vlmprompt.results.rows import ResultRow


def test_the_mean_is_over_pairs_and_classes() -> None:
    unit_PKd = F.normalize(torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    pairs = [F.cosine_similarity(a, b, dim=-1).mean() for a, b in itertools.combinations(unit_PKd, 2)]
    assert float(mean_cosine(unit_PKd)) == pytest.approx(float(torch.stack(pairs).mean()), abs=1e-6)
    two = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])
    assert float(mean_cosine(two)) == pytest.approx(0.6)


def test_it_is_what_dual_pt_logs(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 2, [])
    method = build_method("dual_pt", tiny_backbone, dataset.class_names, {"context": "none"}).eval()
    (cell,) = PromptsSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    (value,) = cell.measure().values
    assert value.value == pytest.approx(method.diagnostics()["prompt_cosine"], abs=1e-6)
    assert value.value < 0.999


@pytest.mark.parametrize(("name", "reason"), [("coop", "one prompt"), ("linear_probe", "no text prompts")])
def test_methods_without_several_prompts(tiny_backbone: Backbone, name: str, reason: str) -> None:
    dataset = patches(3, 2, [])
    method = build_method(name, tiny_backbone, dataset.class_names).eval()
    (cell,) = PromptsSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    with pytest.raises(CapabilityError, match=reason):
        cell.measure()


@pytest.mark.parametrize("name", host().methods.names())
def test_every_method_has_prompts_to_compare_or_cannot(tiny_backbone: Backbone, name: str) -> None:
    """What is no failure must not look like one, and the other way round."""
    dataset = patches(3, 2, [])
    described = [["a stripe", "a spot"]] * 3
    method = build_method(name, tiny_backbone, dataset.class_names, descriptions=described).eval()
    (cell,) = PromptsSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    try:
        assert -1 <= cell.measure().values[0].value <= 1.0001
    except CapabilityError as error:
        assert "prompt" in error.message or "depends on the image" in error.message


def test_a_damaged_checkpoint_is_a_failure_and_is_measured_once_it_is_whole_again(
    trained: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    path = run / "checkpoint.safetensors"

    def measure() -> ResultRow:
        (row,) = evaluate(run, "prompts", runtime(tmp_path), reference=False, backbone=tiny_backbone)
        return row

    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        for _ in range(2):
            row = measure()
            assert (row.status, row.value) == ("failed", None) and "checkpoint.safetensors is damaged" in row.note
            assert "--force" in row.note and incomplete([row]) is not None
    path.write_bytes(whole)
    row = measure()
    assert (
        row.status == "not_applicable" and row.note == "this method has one prompt a class, so none to compare it with"
    )
