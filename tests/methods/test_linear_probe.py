"""The linear probe: the optimum's own equations, the search for C, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import InputError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.linear_probe import GRID, LinearProbe, search_c
from vlmprompt.methods.logistic import PRECISION, Axes, Point, Regression

NAMES = ["cat", "dog", "horse"]


def blobs(n_classes: int, per_class: int, seed: int, width: int = 32) -> tuple[ImageFeatures, torch.Tensor]:
    """Overlapping clouds around fixed centres."""
    centres = torch.randn(n_classes, width, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    noise = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(seed))
    return ImageFeatures(centres[labels] + 2 * noise), labels


def probe(backbone, names: list[str], **options: object) -> LinearProbe:
    method = build_method("linear_probe", backbone, names, options)
    assert isinstance(method, LinearProbe)
    return method


def test_softmax_optimum(tiny_backbone):
    """At the optimum of C * sum(cross-entropy) + |W|^2 / 2, with b free, both gradients vanish."""
    features, labels = blobs(3, 20, seed=1)
    method = probe(tiny_backbone, NAMES, c_without_val=0.05, max_iter=5000)
    fitted = method.fit(features, labels, None)
    assert fitted == {"C": 0.05, "C_source": "default: no validation images", "converged": True}
    residual_BK = method(features).logits.softmax(dim=-1) - F.one_hot(labels, 3)
    assert (0.05 * residual_BK.T @ features.global_Bd + method.weight).abs().max() < 1e-5
    assert (0.05 * residual_BK.sum(dim=0)).abs().max() < 1e-5
    assert method.weight.abs().max() > 0.05


def optimum(features: ImageFeatures, labels: torch.Tensor, c: float) -> tuple[torch.Tensor, torch.Tensor]:
    """W and b at the minimum of c * sum(cross-entropy) + |W|^2 / 2, by L-BFGS in double precision.

    Where c is small the unknown is U = W / sqrt(c), whose curvature is near that of b.
    """
    scale = min(c, 1.0) ** 0.5
    x_Bd, classes = scale * features.global_Bd.double(), int(labels.max()) + 1
    weight = torch.zeros(classes, x_Bd.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.double, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=4000,
        max_eval=10000,
        history_size=50,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x_Bd @ weight.T + bias, labels, reduction="sum")
        value = value + scale**2 * weight.square().sum() / (2 * c)
        value.backward()
        return value

    solver.step(loss)
    return scale * weight.detach(), bias.detach()


@pytest.mark.parametrize("c", GRID)
@pytest.mark.parametrize("n_classes", [2, 10])
def test_fit_reaches_an_independent_optimum_at_every_c(tiny_backbone, c, n_classes):
    """Unit features, more of them than dimensions, as towers give them: nothing stops early where C is large."""
    raw, labels = blobs(n_classes, 12, seed=1)
    features = ImageFeatures(F.normalize(raw.global_Bd, dim=-1))
    method = probe(tiny_backbone, [f"class {i}" for i in range(n_classes)], c_without_val=c)
    assert method.fit(features, labels, None)["converged"]
    # Of two classes the penalty is on the difference w of the rows, |w|^2 = 2 |W|^2.
    weight, bias = optimum(features, labels, c / 2 if n_classes == 2 else c)
    assert (method.weight.double() - weight).norm() <= 1e-3 * weight.norm()
    expected_BK = features.global_Bd.double() @ weight.T + bias
    shift_B = (method(features).logits.double() - expected_BK).mean(dim=1, keepdim=True)  # b is free up to a constant
    assert (method(features).logits - expected_BK - shift_B).abs().max() <= 2e-3 * expected_BK.abs().max()


def test_a_fit_that_is_cut_short_says_so(tiny_backbone):
    features, labels = blobs(3, 20, seed=1)
    assert not probe(tiny_backbone, NAMES, c_without_val=1e6, max_iter=1).fit(features, labels, None)["converged"]


def test_one_image_a_class_warns_of_nothing(tiny_backbone, recwarn):
    probe(tiny_backbone, NAMES).fit(*blobs(3, 1, seed=1), None)
    assert not recwarn.list


def test_two_classes_optimum(tiny_backbone):
    """The logits' difference is the binary regression: sigmoid residuals against its weight."""
    features, labels = blobs(2, 20, seed=1)
    method = probe(tiny_backbone, NAMES[:2], c_without_val=0.05, max_iter=5000)
    method.fit(features, labels, None)
    logits = method(features).logits
    residual_B = torch.sigmoid(logits[:, 1] - logits[:, 0]) - labels
    weight_d = method.weight[1] - method.weight[0]
    assert (0.05 * residual_B @ features.global_Bd + weight_d).abs().max() < 1e-5
    assert weight_d.abs().max() > 0.05


def test_default_c_is_clips(tiny_backbone):
    fitted = probe(tiny_backbone, NAMES).fit(*blobs(3, 4, seed=1), None)
    assert fitted["C"] == 0.316


def test_c_is_searched_on_validation_images(tiny_backbone):
    train, val = blobs(3, 8, seed=1), blobs(3, 40, seed=2)
    method = probe(tiny_backbone, NAMES)
    fitted = method.fit(*train, val)
    assert fitted["C_source"] == "grid and bisection on 120 validation images"

    def accuracy(c: float) -> float:
        other = probe(tiny_backbone, NAMES, c_without_val=c)
        other.fit(*train, None)
        return float((other(val[0]).logits.argmax(dim=-1) == val[1]).double().mean())

    assert accuracy(fitted["C"]) >= max(accuracy(c) for c in GRID) > 0.5


def test_search_converges_on_a_single_peak():
    """Eight bisections of two decades around the best grid point (here 1): within 2 / 2^7 decades of the peak."""
    for peak in (-0.7, 0.1, 0.9):
        found = search_c(lambda c, peak=peak: -abs(math.log10(c) - peak))
        assert abs(math.log10(found) - peak) <= 2 / 2**7


def test_search_by_hand_where_all_are_equal():
    """The grid takes its largest C, 1e6; each bisection then keeps the smaller end, which stays 1e5."""
    assert search_c(lambda c: 0.5) == pytest.approx(1e5)


def test_search_fits_no_c_twice():
    asked: list[float] = []
    search_c(lambda c: asked.append(c) or -abs(math.log10(c)))  # type: ignore[func-returns-value]
    assert len(asked) == len(set(asked)) <= len(GRID) + 2 + 8


def test_output_has_no_cosines_and_reads_no_text(tiny_backbone):
    method = probe(tiny_backbone, NAMES)
    method.fit(*blobs(3, 4, seed=1), None)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = method(images)
    assert output.global_cosines is None
    assert output.scale == 1.0
    assert method.frozen_text() is None
    raw_Bd = tiny_backbone.encode_image(images).global_Bd  # not normalised
    torch.testing.assert_close(output.logits, raw_Bd @ method.weight.T + method.bias)


def test_state_is_weight_and_bias(tiny_backbone):
    method = probe(tiny_backbone, NAMES)
    method.fit(*blobs(3, 4, seed=1), None)
    state = method.trainable_state()
    assert {name: tuple(t.shape) for name, t in state.items()} == {"weight": (3, 32), "bias": (3,)}
    other = probe(tiny_backbone, NAMES)
    other.load_trainable_state(state)
    features, _ = blobs(3, 4, seed=5)
    assert torch.equal(other(features).logits, method(features).logits)
    assert list(method.trainable_parameters()) == []


def test_refuses_what_it_cannot_fit(tiny_backbone):
    features, labels = blobs(3, 4, seed=1)
    with pytest.raises(InputError, match="no training image of class 'horse'"):
        probe(tiny_backbone, NAMES).fit(features[:8], labels[:8], None)
    with pytest.raises(InputError, match="at least two classes"):
        probe(tiny_backbone, NAMES[:1]).fit(features[:4], labels[:4], None)
    with pytest.raises(InputError, match="cannot serve other classes"):
        probe(tiny_backbone, NAMES).with_classes(["fox"])


@pytest.mark.parametrize("c", [1e-4, 0.316, 1e3, 1e7])
def test_directions_in_single_precision_lead_to_the_same_optimum(c: float) -> None:
    generator = torch.Generator().manual_seed(3)
    y_B = torch.arange(6).repeat(8)
    x_Bd = torch.randn(48, 10, generator=generator) + 0.5 * torch.randn(6, 10, generator=generator)[y_B]
    single, double = Regression(x_Bd, y_B, 6), Regression(x_Bd, y_B, 6)
    double._least_double = 0.0
    (weight_Kd, bias_K, distance), (expected_Kd, expected_K, _) = single.fit(c), double.fit(c)
    assert distance <= PRECISION
    assert (weight_Kd - expected_Kd).norm() <= 2 * PRECISION * expected_Kd.norm()
    torch.testing.assert_close(bias_K, expected_K, rtol=1e-4, atol=1e-4)


def test_a_direction_that_leads_nowhere_is_sought_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    y_B = torch.arange(3).repeat(5)
    x_Bd = torch.randn(15, 4, generator=torch.Generator().manual_seed(0))
    expected_Kd, _, _ = Regression(x_Bd, y_B, 3).fit(1.0)
    tried, plain = [], Regression._direction

    def useless(self: Regression, point: Point, c: float, axes: Axes) -> tuple[torch.Tensor, torch.Tensor]:
        tried.append(axes.x_Br.dtype)
        step_Kr, step_K = plain(self, point, c, axes)
        return (step_Kr, step_K) if axes.x_Br.dtype == torch.float64 else (step_Kr * torch.nan, step_K)

    monkeypatch.setattr(Regression, "_direction", useless)
    regression = Regression(x_Bd, y_B, 3)
    weight_Kd, _, distance = regression.fit(1.0)
    assert distance <= PRECISION and (weight_Kd - expected_Kd).norm() <= 2 * PRECISION * expected_Kd.norm()
    assert tried.count(torch.float32) == 1 and regression._least_double == 0.1
