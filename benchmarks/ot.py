"""DUAL-PT's plans, all images and classes of a batch at once, against a loop over POT's solver."""

from __future__ import annotations

from functools import partial

import numpy as np
import ot
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.frame import Mark, Row, side_by_side
from vlmprompt.api import transport_plan

IMAGES, CLASSES, PROMPTS = 8, 50, 4
# Positions and joint width: RN50 and ViT-B/16.
TOWERS = {"RN50": (49, 1024), "ViT-B/16": (196, 512)}
ALPHA, LAMBDA = 0.2, 0.1
# Both sides: row sums within 1e-6, plans at rest within 5e-6 of their largest entry.
TOL_OUTER, TOL_INNER, MAX_OUTER, MAX_INNER = 5e-6, 1e-6, 100, 2000


def measure(repeats: int = 5) -> list[Row]:
    """One row a tower."""
    return [_row(name, *sizes, repeats) for name, sizes in TOWERS.items()]


def _row(name: str, positions: int, width: int, repeats: int) -> Row:
    generator = torch.Generator().manual_seed(0)
    Z_BNd = features(IMAGES, positions, width, generator=generator)
    W_KMd = features(CLASSES, PROMPTS, width, generator=generator)
    ours = partial(transport_plan, Z_BNd, W_KMd, alpha=ALPHA, lambda_=LAMBDA)
    loop = partial(by_pot, Z_BNd.double(), W_KMd.double())
    plans, expected = ours().double(), loop()
    apart = float(((plans - expected).abs().amax(dim=(2, 3)) / expected.amax(dim=(2, 3))).max())
    loop_s, ours_s = side_by_side({loop: 1, ours: 4 * repeats})
    figures = {"POT s": loop_s, "ours s": ours_s, "ratio": loop_s / ours_s}
    marks = (Mark("ratio", loop_s / ours_s, 50), Mark("difference of max T", apart, 1e-5, at_least=False))
    case = f"{name}, B={IMAGES}, K={CLASSES}, N={positions}, M={PROMPTS}"
    return Row("ot", case, figures, marks)


def features(*shape: int, generator: torch.Generator) -> Tensor:
    """Unit vectors with much in common, as the features of a CLIP tower are."""
    shared = torch.randn(shape[-1], generator=generator)
    return F.normalize(shared + 0.8 * torch.randn(shape, generator=generator), dim=-1)


def by_pot(Z_BNd: Tensor, W_KMd: Tensor) -> Tensor:
    """Image by image and class by class: (B,K,N,M).

    POT's Gromov-Wasserstein gradient is twice that of Algorithm 1, hence its other alpha and epsilon.
    """
    p, q = (np.full(n, 1 / n) for n in (Z_BNd.shape[1], W_KMd.shape[1]))
    solve = partial(
        ot.gromov.entropic_fused_gromov_wasserstein,
        loss_fun="square_loss",
        solver="PGD",
        symmetric=True,
        alpha=ALPHA / (2 - ALPHA),
        epsilon=2 * LAMBDA / (2 - ALPHA),
        max_iter=MAX_OUTER,
        tol=TOL_OUTER / Z_BNd.shape[1] / W_KMd.shape[1],  # of a norm of plans, whose entries are about 1 / (N M)
        numItermax=MAX_INNER,
        stopThr=TOL_INNER,
    )
    plans = [
        [torch.from_numpy(solve(1 - Z @ W.T, Z @ Z.T, W @ W.T, p, q)) for W in W_KMd.numpy()] for Z in Z_BNd.numpy()
    ]
    return torch.stack([torch.stack(row) for row in plans])
