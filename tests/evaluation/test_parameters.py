"""Trained parameters: counted by hand, and as Bloom's Table 5 counts a ViT-B/16."""

from __future__ import annotations

import open_clip
import pytest
import torch

from tests.evaluation.material import patches
from tests.evaluation.test_context import make_bank, make_context
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.suites.parameters import ParametersSuite, towers_parameters
from vlmprompt.methods.build import build_method


def test_the_context_of_coop(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 2, [])
    method = build_method("coop", tiny_backbone, dataset.class_names, {"n_ctx": 5}).eval()
    (cell,) = ParametersSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    count, share = cell.measure().values
    state = tiny_backbone.model.state_dict()
    tables = {"token_embedding.weight", "attn_mask"}
    towers = sum(tensor.numel() for name, tensor in state.items() if name not in tables)
    assert (count.metric, count.value) == ("parameters", 5 * state["token_embedding.weight"].shape[1])
    assert share.value == pytest.approx(count.value / towers)
    assert not count.higher_is_better


def test_zeroshot_trains_none(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 2, [])
    method = build_method("zeroshot", tiny_backbone, dataset.class_names).eval()
    (cell,) = ParametersSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    assert [value.value for value in cell.measure().values] == [0, 0]


def test_what_is_fitted_at_once_is_not_taken_for_untrained(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 2, [])
    method = build_method("linear_probe", tiny_backbone, dataset.class_names).eval()
    (cell,) = ParametersSuite().cells(make_context(dataset, make_bank(tiny_backbone), method))
    with pytest.raises(CapabilityError, match="fitted at once"):
        cell.measure()


def test_a_vit_b_16_is_counted_as_in_table_5_of_bloom() -> None:
    config = open_clip.get_model_config("ViT-B-16")
    with torch.device("meta"):
        model = open_clip.model.CLIP(**config)
    towers = towers_parameters(model)
    assert 100 * 3.55e6 / towers == pytest.approx(2.85, abs=0.01)  # as printed of MaPLe
    assert 100 * 2.24e6 / towers == pytest.approx(1.80, abs=0.01)  # and of Bloom
