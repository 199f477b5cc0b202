"""The sparse similarity: each class's best-matching patches, without the similarities of all.

Shapes: B images, N patches, K classes (C of a part), n prompts, d joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Similarities (images x patches x classes) that exist at one time, for one prompt.
PART_VALUES = 2**23


def topk_means(local_BNd: Tensor, text_nKd: Tensor, scales: Sequence[int]) -> Tensor:
    """The mean of the k_j highest similarities of each image, class and prompt j (eq. 2).

    A prompt's similarities to a part of the classes exist at one time, in both passes; the graph holds the
    indices of the chosen patches. Where all patches count, the mean is taken of the features first.

    Args:
        scales: k_j of each prompt; k_j >= N takes all patches.

    Returns:
        (B,K,n).
    """
    per_prompt = [_topk_mean(local_BNd, text_Kd, k) for text_Kd, k in zip(text_nKd, scales, strict=True)]
    return torch.stack(per_prompt, dim=-1)


def _topk_mean(local_BNd: Tensor, text_Kd: Tensor, k: int) -> Tensor:
    n_images, n_patches, _ = local_BNd.shape
    if k >= n_patches:
        return local_BNd.mean(dim=1) @ text_Kd.T
    if torch.compiler.is_compiling():  # a graph is for any number of images, so it has no parts
        return _best(local_BNd @ text_Kd.T, k)
    part = max(1, PART_VALUES // (n_images * n_patches))
    return torch.cat([_best(local_BNd @ text_Cd.T, k) for text_Cd in text_Kd.split(part)], dim=1)


def _best(sim_BNC: Tensor, k: int) -> Tensor:
    return sim_BNC.topk(k, dim=1, sorted=False).values.mean(dim=1)
