"""Sparse similarities: each class's best-matching patches, without the similarities of all.

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


def topk_cosines(local_BNd: Tensor, text_nKd: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The patches of each image and class whose mean similarity to its prompts is highest, and their similarities.

    As in `topk_means`, a prompt's similarities to all patches exist for a part of the classes at one time.

    Args:
        k: patches of each image and class; k >= N takes all.

    Returns:
        Similarities (B,K,k,n), and which patches they are of, the best first: (B,K,k).
    """
    n_images, n_patches, _ = local_BNd.shape
    k = min(k, n_patches)
    part = max(1, PART_VALUES // max(1, n_images * n_patches))
    found = [_chosen(local_BNd, text_nCd, k) for text_nCd in text_nKd.split(part, dim=1)]
    return torch.cat([sim for sim, _ in found], dim=1), torch.cat([index for _, index in found], dim=1)


def _chosen(local_BNd: Tensor, text_nCd: Tensor, k: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        index_BkC = (local_BNd @ text_nCd.mean(dim=0).T).topk(k, dim=1).indices
    # The graph of a prompt holds indices, not its similarities to all patches.
    per_prompt = [(local_BNd @ text_Cd.T).gather(1, index_BkC) for text_Cd in text_nCd]
    return torch.stack(per_prompt, dim=-1).transpose(1, 2), index_BkC.mT


def _topk_mean(local_BNd: Tensor, text_Kd: Tensor, k: int) -> Tensor:
    n_images, n_patches, _ = local_BNd.shape
    if k >= n_patches:
        return local_BNd.mean(dim=1) @ text_Kd.T
    if torch.compiler.is_compiling():  # a graph is for any number of images, so it has no parts
        return _best(local_BNd @ text_Kd.T, k)
    part = max(1, PART_VALUES // max(1, n_images * n_patches))
    return torch.cat([_best(local_BNd @ text_Cd.T, k) for text_Cd in text_Kd.split(part)], dim=1)


def _best(sim_BNC: Tensor, k: int) -> Tensor:
    return sim_BNC.topk(k, dim=1, sorted=False).values.mean(dim=1)
