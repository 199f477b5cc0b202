"""What a method has seen where: maps over local positions for one class of each image, to be shown.

Shapes: B images, K classes, N local positions, M or n prompts, k positions of a prompt, d joint width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vlmprompt.backbones.shaped import Shaped
from vlmprompt.errors import CapabilityError
from vlmprompt.shown import several

if TYPE_CHECKING:
    from vlmprompt.methods.output import MethodOutput

MapKind = Literal["patches", "plan", "cosines", "attention"]


@dataclass(frozen=True, repr=False)
class PatchMap(Shaped):
    """One map of each image.

    Attributes:
        kind: "patches": 1 where a position was chosen, else 0; "plan": shares of a mass, which sum to 1; "cosines":
            from -1 to 1; "attention": not negative, of no particular size.
        title: a few words, such as "prompt 2, 10 patches"; empty for a map of the method as a whole.
        values_BN: one value a position.
    """

    kind: MapKind
    title: str
    values_BN: Tensor

    @property
    def weights_BN(self) -> Tensor:
        """How much of the looking falls on each position, on the CPU: each image's sum is 1, or 0 of an empty map.

        Of cosines it is what is above their mean over the positions.
        """
        values_BN = self.values_BN.cpu().double()
        if self.kind == "cosines":
            values_BN = (values_BN - values_BN.mean(dim=1, keepdim=True)).relu()
        total_B1 = values_BN.sum(dim=1, keepdim=True)
        return values_BN / torch.where(total_B1 > 0, total_B1, 1.0)


def chosen_patches(output: MethodOutput, labels_B: Tensor) -> list[Tensor]:
    """The patches that each local prompt averages for a class of each image: (B,k_j) indices, for each prompt.

    Raises:
        CapabilityError: the method has no local prompts that choose (`local_text_nKd`, `local_scales_n` in `aux`).
    """
    if output.local is None or "local_text_nKd" not in output.aux:
        raise CapabilityError("this method has no local prompts that choose patches")
    scales = output.aux["local_scales_n"].tolist()
    return [
        sim_BN.topk(k, dim=1).indices.cpu() for sim_BN, k in zip(_prompt_cosines(output, labels_B), scales, strict=True)
    ]


def chosen_maps(output: MethodOutput, labels_B: Tensor) -> list[PatchMap]:
    """Of local prompts that choose: the patches of each, and the cosines that it chose them by.

    Args:
        output: with `local_text_nKd` and `local_scales_n` in `aux`.
        labels_B: the class of each image.
    """
    sims, chosen = _prompt_cosines(output, labels_B), chosen_patches(output, labels_B)
    counts = [index_Bk.shape[1] for index_Bk in chosen]
    titles = [f"prompt {j}, {several(k, 'patch', 'patches')}" for j, k in enumerate(counts, 1)]
    patches = [
        PatchMap("patches", title, torch.zeros(sim_BN.shape).scatter(1, index_Bk, 1.0))
        for title, sim_BN, index_Bk in zip(titles, sims, chosen, strict=True)
    ]
    return patches + [PatchMap("cosines", f"prompt {j}", sim_BN) for j, sim_BN in enumerate(sims, 1)]


def plan_maps(plan_BKNM: Tensor, labels_B: Tensor) -> list[PatchMap]:
    """Of transport plans: the share of each prompt's mass that comes from each position.

    Args:
        plan_BKNM: what the method used, whose columns sum to 1/M.
        labels_B: the class of each image.
    """
    own_BNM = plan_BKNM[torch.arange(len(labels_B), device=plan_BKNM.device), labels_B.to(plan_BKNM.device)]
    shares_BNM = own_BNM / own_BNM.sum(dim=1, keepdim=True)
    return [PatchMap("plan", f"prompt {m}", share_BN) for m, share_BN in enumerate(shares_BNM.unbind(dim=2), 1)]


def cosine_maps(output: MethodOutput, labels_B: Tensor) -> list[PatchMap]:
    """The cosine of each local feature with a class of each image, as scores of the local view read it."""
    local = output.local
    if local is None:
        return []
    labels_B = labels_B.to(local.features_BNd.device)
    if local.classes.dim() == 2:
        own_Bd = local.classes[labels_B]
    else:
        own_Bd = local.classes[torch.arange(len(labels_B), device=labels_B.device), labels_B]
    return [PatchMap("cosines", "", (local.features_BNd @ own_Bd[..., None])[..., 0])]


def _prompt_cosines(output: MethodOutput, labels_B: Tensor) -> list[Tensor]:
    """Of each local prompt for a class of each image: (B,N), for each prompt."""
    assert output.local is not None
    own_nBd = output.aux["local_text_nKd"][:, labels_B.to(output.logits.device)]
    return list(torch.einsum("bnd,jbd->jbn", output.local.features_BNd, own_nBd))
