"""Whether local prompts look at the object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, MetricValue, Reading
from vlmprompt.evaluation.pointing import masks
from vlmprompt.methods.patch_maps import chosen_patches

METRICS = ("on_object", "chance", "above_chance")


class PointingSuite:
    """The share of the patches chosen by local prompts, for an image's own class, that lie on the object.

    On the test split of data with masks, such as doodles. A patch counts by its centre. `on_object` is the mean
    over images and prompts, the note gives it for each prompt; `chance` is the object's share of all patches,
    `above_chance` the difference. It puts a number to what GalLoP's paper (Lafon et al., ECCV 2024) shows in
    pictures.
    """

    name = "pointing"
    version = 1

    def cells(self, context: Context) -> Sequence[Cell]:
        """One, of all prompts together: which scales there are shows when the method has run."""
        shares = cache(partial(_shares, context))
        return [Cell("test", METRICS, partial(_values, context, shares), reads=(Reading(context.trained),))]


def _values(context: Context, shares: Callable[[], tuple[Tensor, Tensor]]) -> list[MetricValue]:
    own_n, chance = shares()
    n = len(context.trained.split("test"))
    values = (float(own_n.mean()), float(chance), float((own_n - chance).mean()))
    by_scale = ", ".join(f"{value:.3f}" for value in own_n.tolist())
    return [
        MetricValue(name, value, n, note=f"by prompt, small scales first: {by_scale}")
        for name, value in zip(METRICS, values, strict=True)
    ]


def _shares(context: Context) -> tuple[Tensor, Tensor]:
    """Of each prompt's patches, those on the object: (n,); and the object's share of all patches."""
    records, done = context.trained.split("test"), 0
    on_object: list[Tensor] = []
    all_patches: list[Tensor] = []
    for output, labels_B in context.outputs(context.method(), context.trained):
        chosen = chosen_patches(output, labels_B)
        assert output.local is not None
        mask_BN = masks(records[done : done + len(labels_B)], output.local.features_BNd.shape[1])
        done += len(labels_B)
        on_object.append(torch.stack([mask_BN.gather(1, index_Bk).double().mean(dim=1) for index_Bk in chosen]))
        all_patches.append(mask_BN.double().mean(dim=1))
    return torch.cat(on_object, dim=1).mean(dim=1), torch.cat(all_patches).mean()
