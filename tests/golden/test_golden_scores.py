"""OOD scores and metrics against the numbers of five published codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.golden.golden import Golden, load
from vlmprompt.evaluation.ood_metrics import OOD_METRICS, ood_metrics
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.scores import ood_scores

GOLDEN: Golden = load("scores")
CASES: list[str] = GOLDEN.settings["metric_cases"]
SCALE = 20.0
# MCM's code keeps the entropy itself as its score: lower is more in-distribution, as with all the others.
GLOBAL = ("MCM", "max-logit", "energy", "entropy", "var")


@pytest.fixture(scope="module")
def output() -> MethodOutput:
    t = {name: GOLDEN.tensors[f"in.{name}"] for name in ("text", "image", "local")}
    text, image, local = (F.normalize(x, dim=-1) for x in t.values())
    cosines = image @ text.T
    return MethodOutput(SCALE * cosines, SCALE, cosines, LocalView(local.flatten(1, 2), text))


@pytest.mark.parametrize("temperature", ["1.0", "0.1", "0.01"])
@pytest.mark.parametrize("name", GLOBAL)
def test_global_scores(output: MethodOutput, name: str, temperature: str) -> None:
    ours = ood_scores(output, name.lower(), float(temperature))
    torch.testing.assert_close(ours, -GOLDEN.tensors[f"mcm_repo.{name}_T{temperature}"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("temperature", ["1.0", "0.1", "0.01"])
@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("mcm", {}, "MCM_T{}"),
        ("l-mcm", {}, "L-MCM_T{}"),
        ("gl-mcm", {}, "GL-MCM_T{}_lambda1.0"),
        ("gl-mcm", {"local_weight": 0.5}, "GL-MCM_T{}_lambda0.5"),
    ],
)
def test_local_scores(
    output: MethodOutput, name: str, options: dict[str, Any], reference: str, temperature: str
) -> None:
    ours = ood_scores(output, name, float(temperature), **options)
    expected = -GOLDEN.tensors[f"glmcm_repo.{reference.format(temperature)}"]
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_metrics(case: str) -> None:
    t = {name: tensor.numpy() for name, tensor in GOLDEN.group(f"{case}.").items()}
    ours = ood_metrics(t["in.id"], t["in.ood"])
    assert list(ours) and set(ours) == set(OOD_METRICS)
    gallop, locoop, openood = t["gallop"], t["locoop"], t["openood"]
    expected = {
        "fpr95_id_pos": [gallop[0], locoop[0]],
        "auroc": [gallop[1], locoop[1], openood[1]],
        "aupr_in": [gallop[2], locoop[2]],
        "aupr_out": [gallop[3]],
        "fpr95_ood_pos": [openood[0], t["openood_no_drop"][0]],
        "aupr_in_trapezoid": [openood[2]],
        "aupr_out_trapezoid": [openood[3]],
    }
    for name, references in expected.items():
        np.testing.assert_allclose([ours[name]] * len(references), references, atol=1e-9, err_msg=name)


def test_the_conventions_differ() -> None:
    """What a mix-up would look like: 0.967 and not 0.900 where recall can miss 0.95 on both sides."""
    t = GOLDEN.group("exact20.")
    ours = ood_metrics(t["in.id"], t["in.ood"])
    assert ours["fpr95_id_pos"] == pytest.approx(29 / 30, abs=1e-3)
    assert float(t["openood_id_positive"][0]) == pytest.approx(0.9, abs=1e-3)
