"""OOD scores worked out by hand, streamed against whole, and what a method cannot give."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vlmprompt.errors import CapabilityError, UsageError
from vlmprompt.methods import output as output_module
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.score_names import SCORES
from vlmprompt.methods.scores import basis, ood_scores

SCALE = 10.0
COSINES = torch.tensor([[0.5, -0.5], [0.2, 0.2]])


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def output(cosines: torch.Tensor = COSINES) -> MethodOutput:
    return MethodOutput(SCALE * cosines, SCALE, cosines)


def test_by_hand() -> None:
    p = math.exp(0.5) / (math.exp(0.5) + math.exp(-0.5))
    entropy = p * math.log(p) + (1 - p) * math.log(1 - p)
    confident = 1 / (1 + math.exp(-10))
    expected = {
        "mcm": (p, 0.5),
        "max-logit": (0.5, 0.2),
        "energy": (math.log(math.exp(0.5) + math.exp(-0.5)), 0.2 + math.log(2)),
        "entropy": (entropy, -math.log(2)),
        "var": ((p - 0.5) ** 2, 0.0),
        "msp": (confident, 0.5),
    }
    for name, values in expected.items():
        assert ood_scores(output(), name).tolist() == pytest.approx(values, abs=1e-6), name


def test_temperature_and_scale() -> None:
    for name in ("mcm", "entropy", "var"):
        torch.testing.assert_close(ood_scores(output(), name, 0.1), ood_scores(output(SCALE * COSINES), name))
    assert ood_scores(output(), "energy", scaled=True)[0] == pytest.approx(5 + math.log1p(math.exp(-10)), abs=1e-5)
    assert ood_scores(output(), "energy", 0.1)[0] == pytest.approx(0.5 + 0.1 * math.log1p(math.exp(-10)), abs=1e-5)
    torch.testing.assert_close(ood_scores(output(), "mcm", scaled=True), ood_scores(output(), "msp"))
    assert ood_scores(output(), "max-logit", 0.1)[0] == pytest.approx(0.5)


def test_local_scores_by_hand() -> None:
    """Two patches, two classes: the second patch is the surer one."""
    view = LocalView(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0.6, -0.8], [0.5, 0.9]]))
    surest = 1 / (1 + math.exp(-1.7))
    assert view.lmcm().tolist() == pytest.approx([surest])
    both = MethodOutput(SCALE * COSINES[:1], SCALE, COSINES[:1], view)
    mcm = ood_scores(both, "mcm").item()
    assert ood_scores(both, "l-mcm").item() == pytest.approx(surest)
    assert ood_scores(both, "gl-mcm").item() == pytest.approx(mcm + surest)
    assert ood_scores(both, "gl-mcm", local_weight=0.25).item() == pytest.approx(mcm + 0.25 * surest)
    scaled = 1 / (1 + math.exp(-17))
    assert ood_scores(both, "l-mcm", scaled=True).item() == pytest.approx(scaled)


@settings(max_examples=40)
@given(
    classes=st.integers(1, 9),
    chunk=st.integers(1, 10),
    per_image=st.booleans(),
    temperature=st.sampled_from([1.0, 0.1, 0.01]),
    seed=st.integers(0, 99),
)
def test_streamed_equals_whole(classes: int, chunk: int, per_image: bool, temperature: float, seed: int) -> None:
    text = unit(3, classes, 5, seed=seed) if per_image else unit(classes, 5, seed=seed)
    view = LocalView(unit(3, 4, 5, seed=seed + 1).double(), 0.7 * text.double())
    whole = (view.cosines() / temperature).softmax(dim=-1).amax(dim=(1, 2))
    torch.testing.assert_close(view.lmcm(temperature, chunk), whole, rtol=1e-9, atol=1e-12)


def test_streaming_holds_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a chunk given, what exists at a time is bounded whatever the number of classes."""
    monkeypatch.setattr(output_module, "STREAM_VALUES", 64)
    seen: list[int] = []
    cosines = LocalView.cosines
    monkeypatch.setattr(LocalView, "cosines", lambda self: seen.append(len(self.classes)) or cosines(self))
    view = LocalView(unit(2, 4, 5), unit(21, 5))
    assert len(view.lmcm()) == 2
    assert seen == [8, 8, 5]


def test_logits_take_the_place_of_missing_cosines() -> None:
    of_logits = MethodOutput(SCALE * COSINES, SCALE)
    for name in ("mcm", "max-logit", "energy", "entropy", "var"):
        torch.testing.assert_close(ood_scores(of_logits, name), ood_scores(output(), name))
        assert basis(of_logits, name) == "mcm_on=logits"
        assert basis(output(), name) == "global cosines"
    for name in ("l-mcm", "gl-mcm"):
        with pytest.raises(CapabilityError, match="local features"):
            basis(of_logits, name)


def test_a_regression_has_no_cosines() -> None:
    probe = MethodOutput(COSINES, 1.0, cosine_logits=False)
    assert ood_scores(probe, "max-logit").tolist() == pytest.approx([0.5, 0.2])
    for name in SCORES:
        if name in ("max-logit", "energy", "msp"):
            assert basis(probe, name) == "logits"
            continue
        for ask in (basis, ood_scores):
            with pytest.raises(CapabilityError, match=r"needs (cosines|local features)"):
                ask(probe, name)


def test_low_precision_is_widened_and_wide_kept() -> None:
    assert ood_scores(output(COSINES.half()), "mcm").dtype == torch.float32
    assert ood_scores(output(COSINES.double()), "mcm").dtype == torch.float64


def test_a_flat_softmax_keeps_its_order() -> None:
    """A thousand cosines at temperature 1: scores differ in their fourth digit only."""
    cosines = 0.25 + 0.01 * torch.rand(6, 1000, generator=torch.Generator().manual_seed(3))
    cosines[:, 0] = 0.27 + 1e-4 * torch.arange(6)
    scores = ood_scores(output(cosines), "mcm")
    assert scores.max() / scores.min() < 1.002
    reference = [math.exp(row[0]) / math.fsum(math.exp(c) for c in row) for row in cosines.double().tolist()]
    assert scores.tolist() == pytest.approx(reference, rel=1e-6)


def test_bad_requests() -> None:
    with pytest.raises(UsageError, match="unknown OOD score 'mmc'") as error:
        ood_scores(output(), "mmc")
    assert "'mcm'" in str(error.value.hint)
    with pytest.raises(UsageError, match="above 0, not 0"):
        ood_scores(output(), "mcm", 0.0)
