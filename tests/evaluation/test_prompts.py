"""How alike prompts are: counted by hand, and on methods with several prompts, one, and none."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from tests.evaluation.material import patches
from tests.evaluation.test_context import make_bank, make_context
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.suites.prompts import PromptsSuite, mean_cosine
from vlmprompt.methods.build import build_method


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
    (value,) = cell.compute()
    assert value.value == pytest.approx(method.diagnostics()["prompt_cosine"], abs=1e-6)
    assert value.value < 0.999


@pytest.mark.parametrize(("name", "reason"), [("coop", "one prompt"), ("linear_probe", "no text prompts")])
def test_methods_without_several_prompts(tiny_backbone: Backbone, name: str, reason: str) -> None:
    dataset = patches(3, 2, [])
    method = build_method(name, tiny_backbone, dataset.class_names).eval()
    (cell,) = PromptsSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    with pytest.raises(CapabilityError, match=reason):
        cell.compute()
