"""LP++: three images by hand, its descent against autograd and SGD, the choice of an epoch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.adapters.feature_cases import axes, blobs, build, fitted
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.errors import InputError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod


def test_start_and_step_sizes_by_hand(tiny_backbone):
    """Unit images (0.6, 0.8), (1, 0), (0, 1) of labels 0, 0, 1; text along the axes.

    Mean true cosines: (0.6 + 1) / 2 = 0.8 and 1. Z^T Z = [[1.36, 0.48], [0.48, 1.64]]: its trace is 3 and its
    determinant 2, so its largest eigenvalue is 2. Sums of squared cosines: 1.36 and 1.64.
    """
    method = build_method("lp_plus_plus", tiny_backbone, ["a", "b"], {"epochs": 1, "alpha_factor": 10})
    method.text_Kd = axes({0: 1}, {1: 1})
    bias = method.bias.detach().clone()
    record = method.fit(ImageFeatures(axes({0: 3, 1: 4}, {0: 7}, {1: 2})), torch.tensor([0, 0, 1]), None)
    assert record["alpha_start"] == pytest.approx(9)
    assert record["lr_weight"] == pytest.approx(4 * 3 / 2)
    assert record["lr_alpha"] == pytest.approx(3 / (4 * 1.64))
    assert record["epoch"] == 1
    assert torch.equal(method.alpha, torch.full((2,), record["alpha_start"]))  # it has not moved yet
    z = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    start = torch.tensor([[1.6, 0.8], [0.0, 1.0]])
    residual = ((z @ start.T + bias + 9 * z).softmax(dim=1) - torch.tensor([[1.0, 0], [1, 0], [0, 1]])) / 3
    torch.testing.assert_close(method.weight[:, :2].detach(), start - 6 * residual.T @ z)
    torch.testing.assert_close(method.bias.detach(), bias - 6 * residual.sum(dim=0))


def descended(method: PromptMethod, features: ImageFeatures, labels: Tensor, epochs: int, every: int) -> list[Tensor]:
    """Weight, bias and alpha by torch's own gradients and optimiser, in double precision."""
    z, t = F.normalize(features.global_Bd.double(), dim=1), method.text_Kd.double()
    true = F.one_hot(labels, len(t)).double()
    weight, bias = nn.Parameter(true.T @ z), nn.Parameter(method.bias.detach().double())
    mean = (true * (z @ t.T)).sum(dim=0) / true.sum(dim=0)
    alpha = nn.Parameter(torch.full((len(t),), float(method.config.alpha_factor * mean.mean()), dtype=torch.double))
    lr_weight = 4 * len(z) / float(torch.linalg.matrix_norm(z, 2).square())
    lr_alpha = len(z) / (4 * float((z @ t.T).square().sum(dim=0).max()))
    optimizer = torch.optim.SGD([weight, bias], lr=lr_weight, momentum=0.9)
    for epoch in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(z @ weight.T + bias + alpha * (z @ t.T), labels).backward()  # alpha's gradient is never zeroed
        optimizer.step()
        if (epoch + 1) % every == 0:
            alpha.data -= lr_alpha * alpha.grad
    return [weight.detach(), bias.detach(), alpha.detach()]


@pytest.mark.parametrize(("epochs", "every"), [(3, 10), (12, 5), (12, 1)])
def test_descent(tiny_backbone, epochs, every):
    train_set = blobs(4, seed=1)
    method = build(tiny_backbone, "lp_plus_plus", epochs=epochs, alpha_every=every, alpha_factor=20)
    expected = descended(method, *train_set, epochs, every)
    method.fit(*train_set, None)
    for ours, reference in zip((method.weight, method.bias, method.alpha), expected, strict=True):
        assert (ours.double() - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_the_best_epoch_of_equal_ones_the_latest(tiny_backbone):
    train_set, val = blobs(4, seed=1), blobs(30, seed=2)

    def right(method: PromptMethod) -> int:
        return int((method(val[0]).logits.argmax(dim=1) == val[1]).sum())

    counts = []
    for epochs in range(1, 13):
        method = build(tiny_backbone, "lp_plus_plus", epochs=epochs)
        method.fit(*train_set, val)
        counts.append(right(method))
    best = max(epoch for epoch, count in enumerate(counts, start=1) if count == max(counts))
    assert best < 12 and counts[-1] < max(counts)  # else this would not tell
    searching = build(tiny_backbone, "lp_plus_plus", search="val")
    record = searching.fit(*train_set, val)
    assert (record["epoch"], record["tried"]) == (best, 12)
    assert record["val_accuracy"] == pytest.approx(max(counts) / 90)
    expected = build(tiny_backbone, "lp_plus_plus", epochs=best)
    expected.fit(*train_set, None)
    assert torch.equal(searching(val[0]).logits, expected(val[0]).logits)
    state = searching.trainable_state()
    assert searching.search_on_val(*val) == record
    assert all(torch.equal(tensor, state[name]) for name, tensor in searching.trainable_state().items())


def test_search_without_what_it_needs(tiny_backbone):
    train_set, val = blobs(4, seed=1), blobs(5, seed=2)
    method = build(tiny_backbone, "lp_plus_plus", search="val")
    with pytest.raises(InputError, match="takes its steps again to search, and was not fitted"):
        method.search_on_val(*val)
    with pytest.raises(InputError, match="choose epoch on validation images"):
        method.fit(*train_set, None)
    method.val_search = False
    assert method.fit(*train_set, None)["epoch"] == 12


def test_logits_are_no_cosines(tiny_backbone):
    output = fitted(tiny_backbone, "lp_plus_plus")(blobs(2, seed=3)[0])
    assert output.scale == 1 and output.global_cosines is None and not output.cosine_logits
