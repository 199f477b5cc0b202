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
SMALLEST = 1e-30  # of a class that no image may be, nor not be


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


@dataclass(frozen=True)
class Axes:
    """Features along their principal axes, in one precision.

    Attributes:
        x_Br, square_Br: they, and their squares.
    """

    x_Br: Tensor
    square_Br: Tensor

    @classmethod
    def of(cls, x_Br: Tensor) -> Axes:
        """Of features."""
        return cls(x_Br, x_Br.square())


class Regression:
    """Fits for any C of one set of features (B,d) with labels (B).

    The objective is C * sum of cross-entropies + |W|^2 / 2, with b free. Centred and turned into their principal axes,
    features have the same optimum; and the Hessian's diagonal then says most of what the Hessian says, so that
    conjugate gradients that are scaled by it end after tens of products with the Hessian, where plain ones need
    hundreds. They run in single precision, which is twice as fast and does for a direction; objective and gradient, by
    which a fit ends, are in double. A fit starts from that of the nearest C before it.
    """

    def __init__(self, x_Bd: Tensor, y_B: Tensor, classes: int) -> None:
        x_Bd = double(x_Bd.detach())
        self._mean_d = x_Bd.mean(dim=0)
        centred_Bd = x_Bd - self._mean_d
        # Of B x d features the d x d products: as exact as is needed of axes that any rotation may replace.
        variance_d, axes_dd = torch.linalg.eigh(centred_Bd.T @ centred_Bd)
        self._axes_dr = axes_dd[:, variance_d > 1e-12 * variance_d[-1]]  # along the others nothing is learned
        self._x_Br = centred_Bd @ self._axes_dr
        self._single, self._double = Axes.of(self._x_Br.float()), Axes.of(self._x_Br)
        self._least_double = float("inf")  # the C from which on directions are sought in double precision
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
            found = None
            if c < self._least_double:
                found = self._along(point, *self._direction(point, c, self._single), c)
                if found is None or found.distance > point.distance:
                    # It led nowhere; where C is a little smaller it leads there slowly.
                    self._least_double, found = c / 10, None
            found = found or self._along(point, *self._direction(point, c, self._double), c)
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

    def _direction(self, point: Point, c: float, axes: Axes) -> tuple[Tensor, Tensor]:
        """Newton's step, as far as it pays so far from the optimum: by conjugate gradients, scaled by the diagonal.

        Args:
            axes: in the precision in which it is sought.
        """
        p_BK = point.p_BK.to(axes.x_Br)
        spread_BK = (point.p_BK * (1 - point.p_BK)).to(p_BK)
        diagonal_Kr = torch.addmm(p_BK.new_ones(()), spread_BK.T, axes.square_Br, alpha=c)
        diagonal = _join(diagonal_Kr, (c * spread_BK.sum(dim=0)).clamp_min(SMALLEST))
        residual = -_join(point.gradient_Kr, point.gradient_K).to(p_BK)
        step, along = torch.zeros_like(residual), residual / diagonal
        slope = float((residual * along).sum())
        enough = slope * min(LEAST_EXACT, sqrt(point.distance)) ** 2
        for _ in range(MOST_PRODUCTS):
            product = _product(axes.x_Br, p_BK, along, c)
            length = slope / float((along * product).sum())
            step.add_(along, alpha=length)
            residual.sub_(product, alpha=length)
            scaled = residual / diagonal
            before, slope = slope, float((residual * scaled).sum())
            if slope <= enough:
                break
            along.mul_(slope / before).add_(scaled)
        return step[:, :-1].to(point.w_Kr), step[:, -1].to(point.w_Kr)

    def _along(self, point: Point, step_Kr: Tensor, step_K: Tensor, c: float) -> Point | None:
        """A point that lowers the objective by enough (Armijo's rule): a whole step away, or halves of it."""
        slope = float((point.gradient_Kr * step_Kr).sum() + (point.gradient_K * step_K).sum())
        if not slope < 0:  # rounding has turned it uphill, or into no number
            return None
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


def _product(x_Br: Tensor, p_BK: Tensor, along: Tensor, c: float) -> Tensor:
    """The Hessian times a direction (K,r+1), whose last column is that of b."""
    change_BK = torch.addmm(along[:, -1], x_Br, along[:, :-1].T).mul_(p_BK)
    change_BK = torch.addcmul(change_BK, p_BK, change_BK.sum(dim=-1, keepdim=True), value=-1)
    return _join(torch.addmm(along[:, :-1], change_BK.T, x_Br, alpha=c), c * change_BK.sum(dim=0))


def _join(of_w_Kr: Tensor, of_b_K: Tensor) -> Tensor:
    return torch.cat([of_w_Kr, of_b_K[:, None]], dim=1)
