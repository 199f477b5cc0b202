"""L2-regularised multinomial logistic regression at its optimum: Newton's method in the features' principal axes.

Shapes: B images, K classes, d features, r principal axes (at most B and d).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

# A fit ends when its weights are surely within this share of the optimum's size from the optimum.
PRECISION = 1e-5
MOST_PRODUCTS = 500  # of the Hessian with a direction, for one step
MOST_HALVINGS = 40  # of a step that would not lower the objective
ARMIJO = 1e-4
LEAST_EXACT = 0.25  # relative error of a step, in the norm of the scaled gradient
SMALLEST = 1e-300  # of a class that no image may be, nor not be


@dataclass(frozen=True)
class Point:
    """Where a fit is.

    Attributes:
        w_Kr, b_K: weights in principal axes, and biases.
        p_BK: probabilities.
        gradient_Kr, gradient_K: of the objective.
    """

    w_Kr: Tensor
    b_K: Tensor
    p_BK: Tensor
    objective: float
    gradient_Kr: Tensor
    gradient_K: Tensor

    @property
    def distance(self) -> float:
        """An upper bound of |W - W*| / |W|.

        The objective is strongly convex in W with modulus 1, so the norm of its gradient bounds the distance (up to
        the free b, of which no C is asked).
        """
        square = float(self.gradient_Kr.square().sum() + self.gradient_K.square().sum())
        size = float(self.w_Kr.norm())
        return sqrt(square) / size if size else float("inf")


class Regression:
    """Fits for any C of one set of features (B,d) with labels (B).

    The objective is C * sum of cross-entropies + |W|^2 / 2, with b free. Centred and turned into their principal axes,
    features have the same optimum; and the Hessian's diagonal then says most of what the Hessian says, so that
    conjugate gradients that are scaled by it end after tens of products with the Hessian, where plain ones need
    hundreds. A fit starts from that of the nearest C before it.
    """

    def __init__(self, x_Bd: Tensor, y_B: Tensor, classes: int) -> None:
        x_Bd = double(x_Bd.detach())
        self._mean_d = x_Bd.mean(dim=0)
        centred_Bd = x_Bd - self._mean_d
        # Of B x d features the d x d products: as exact as is needed of axes that any rotation may replace.
        variance_d, axes_dd = torch.linalg.eigh(centred_Bd.T @ centred_Bd)
        self._axes_dr = axes_dd[:, variance_d > 1e-12 * variance_d[-1]]  # along the others nothing is learned
        self._x_Br = centred_Bd @ self._axes_dr
        self._square_Br = self._x_Br.square()
        self._y_B = y_B.to(x_Bd.device)
        self._classes = classes
        self._fits: dict[float, Point] = {}

    def fit(self, c: float, *, max_iter: int = 1000) -> tuple[Tensor, Tensor, float]:
        """The optimum for one C.

        Returns:
            Weights (K,d) and biases (K), double; and a bound of their relative distance from the optimum, see `Point`.
        """
        if c not in self._fits:
            self._fits[c] = self._newton(c, max_iter)
        point = self._fits[c]
        weight_Kd = point.w_Kr @ self._axes_dr.T
        return weight_Kd, point.b_K - point.b_K.mean() - weight_Kd @ self._mean_d, point.distance

    def _newton(self, c: float, max_iter: int) -> Point:
        point = self._start(c)
        for _ in range(max_iter):
            if point.distance <= PRECISION:
                break
            found = self._along(point, *self._direction(point, c), c)
            if found is None:  # no step lowers the objective by more than its rounding
                break
            point = found
        return point

    def _start(self, c: float) -> Point:
        """The fit of the nearest C, or nothing."""
        if self._fits:
            nearest = min(self._fits, key=lambda other: abs(log(other / c)))
            return self._at(self._fits[nearest].w_Kr, self._fits[nearest].b_K, c)
        zero_Kr = self._x_Br.new_zeros(self._classes, self._x_Br.shape[1])
        return self._at(zero_Kr, zero_Kr.new_zeros(self._classes), c)

    def _at(self, w_Kr: Tensor, b_K: Tensor, c: float) -> Point:
        log_p_BK = torch.addmm(b_K, self._x_Br, w_Kr.T).log_softmax(dim=-1)
        objective = c * F.nll_loss(log_p_BK, self._y_B, reduction="sum") + w_Kr.square().sum() / 2
        p_BK = log_p_BK.exp()
        wrong_BK = p_BK.clone()
        wrong_BK[torch.arange(len(self._y_B)), self._y_B] -= 1
        gradient_Kr = torch.addmm(w_Kr, wrong_BK.T, self._x_Br, alpha=c)
        return Point(w_Kr, b_K, p_BK, float(objective), gradient_Kr, c * wrong_BK.sum(dim=0))

    def _direction(self, point: Point, c: float) -> tuple[Tensor, Tensor]:
        """Newton's step, as far as it pays so far from the optimum: by conjugate gradients, scaled by the diagonal."""
        p_BK = point.p_BK
        spread_BK = p_BK * (1 - p_BK)
        diagonal_Kr = torch.addmm(torch.ones_like(point.w_Kr), spread_BK.T, self._square_Br, alpha=c)
        diagonal = _join(diagonal_Kr, (c * spread_BK.sum(dim=0)).clamp_min(SMALLEST))
        residual = -_join(point.gradient_Kr, point.gradient_K)
        step, along = torch.zeros_like(residual), residual / diagonal
        slope = float((residual * along).sum())
        enough = slope * min(LEAST_EXACT, sqrt(point.distance)) ** 2
        for _ in range(MOST_PRODUCTS):
            product = self._product(p_BK, along, c)
            length = slope / float((along * product).sum())
            step.add_(along, alpha=length)
            residual.sub_(product, alpha=length)
            scaled = residual / diagonal
            before, slope = slope, float((residual * scaled).sum())
            if slope <= enough:
                break
            along.mul_(slope / before).add_(scaled)
        return step[:, :-1], step[:, -1]

    def _product(self, p_BK: Tensor, along: Tensor, c: float) -> Tensor:
        """The Hessian times a direction (K,r+1), whose last column is that of b."""
        change_BK = torch.addmm(along[:, -1], self._x_Br, along[:, :-1].T).mul_(p_BK)
        change_BK = torch.addcmul(change_BK, p_BK, change_BK.sum(dim=-1, keepdim=True), value=-1)
        return _join(torch.addmm(along[:, :-1], change_BK.T, self._x_Br, alpha=c), c * change_BK.sum(dim=0))

    def _along(self, point: Point, step_Kr: Tensor, step_K: Tensor, c: float) -> Point | None:
        """A point that lowers the objective by enough (Armijo's rule): a whole step away, or halves of it."""
        slope = float((point.gradient_Kr * step_Kr).sum() + (point.gradient_K * step_K).sum())
        share = 1.0
        for _ in range(MOST_HALVINGS):
            found = self._at(point.w_Kr + share * step_Kr, point.b_K + share * step_K, c)
            if found.objective <= point.objective + ARMIJO * share * slope or (
                # So near the optimum that rounding hides the objective's fall, the gradient tells.
                found.distance < point.distance / 2
            ):
                return found
            share /= 2
        return None


def double(x: Tensor) -> Tensor:
    """In double precision, which Apple's devices do not have: their tensors go to the CPU."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _join(of_w_Kr: Tensor, of_b_K: Tensor) -> Tensor:
    return torch.cat([of_w_Kr, of_b_K[:, None]], dim=1)
