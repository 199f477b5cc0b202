"""Transport plans against a numpy transcription of Algorithm 1 (float64), and against PLOT's own plans."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.golden import Golden, close, load, settled_or_not
from vlmprompt.api import TextPrompts, transport_plan

PROBLEMS = ("p0", "p1", "p2", "p3", "p4", "p5")


@pytest.fixture(scope="module")
def fgw() -> Golden:
    return load("fgw")


def problem(golden: Golden, name: str) -> tuple[dict[str, Tensor], dict[str, float]]:
    settings = golden.settings["problems"][name]
    return golden.group(f"{name}."), {"alpha": settings["alpha"], "lambda_": settings["lam"]}


def test_every_problem_is_here(fgw):
    assert tuple(fgw.settings["problems"]) == PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_converged_plan(fgw, name):
    t, settings = problem(fgw, name)
    ours = transport_plan(t["in.Z"][None], t["in.W"][None], **settings, max_outer=200, max_inner=2000)[0, 0]
    torch.testing.assert_close(ours, t["out.T_converged"], atol=1e-12, rtol=0)
    score = (ours * (t["in.Z"] @ t["in.W"].T)).sum()
    torch.testing.assert_close(score[None], t["out.cos_score"], atol=1e-10, rtol=0)
    if settings["alpha"] > 0:  # a solver that takes alpha and lambda as POT means them is far off
        assert (ours - t["out.T_pot_naive"]).abs().max() > 1e-4


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 5), (5, 5), (5, 100)])
def test_cut_short_after_exactly_so_many_steps(fgw, name, outer, inner):
    t, settings = problem(fgw, name)
    caps = {"max_outer": outer, "max_inner": inner, "tol_outer": 0, "tol_inner": 0}
    ours = transport_plan(t["in.Z"][None], t["in.W"][None], **settings, **caps)[0, 0]
    torch.testing.assert_close(ours, t[f"out.T_O{outer}_J{inner}"], atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("outer", [1, 2, 3, 5])
def test_outer_steps_with_the_inner_ones_converged(fgw, name, outer):
    t, settings = problem(fgw, name)
    caps = {"max_outer": outer, "max_inner": 2000, "tol_outer": 0}
    ours = transport_plan(t["in.Z"][None], t["in.W"][None], **settings, **caps)[0, 0]
    torch.testing.assert_close(ours, t[f"out.T_outer{outer}"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["p0", "p1", "p2", "p3", "p4"])
def test_fp32_with_default_tolerances(fgw, name):
    t, settings = problem(fgw, name)
    ours = transport_plan(t["in.Z"].float()[None], t["in.W"].float()[None], **settings)[0, 0]
    close(ours, t["out.T_converged"].float(), of_max=1e-5)
    assert (ours.sum(dim=1) - 1 / len(ours)).abs().sum() < 1e-6


@settled_or_not
@pytest.mark.parametrize("variant", ["plain", "eps02"])
def test_plot(variant):
    """PLOT's plans lie (B,K,positions,prompts) as ours do; its text features come from the engine."""
    golden = load("plot")
    text = golden.backbone().text
    W_MKd = text.encode(TextPrompts(golden.tensors["param.ctx"]), text.class_tokens(golden.names))
    Z_BNd = F.normalize(golden.tensors["out.image_tokens"][1:].transpose(0, 1), dim=-1)
    eps = golden.settings["hyper"]["eps"][variant]
    W_KMd = F.normalize(W_MKd.transpose(0, 1), dim=-1)
    ours = transport_plan(Z_BNd, W_KMd, alpha=0, lambda_=eps, stop="plot")
    close(ours, golden.tensors[f"{variant}.out.T"], of_max=1e-5)
