"""The engine of image transformers: pooled and local features, with prompt tokens in any layer.

Local features come in three definitions. Where the pool reads special tokens alone, the last attention is what
gathers the patches: "value_block" is the last block with its attention matrix replaced by the identity (GalLoP's,
LoCoOp's and GL-MCM's code), "value_only" its value path alone, without residual and MLP (MaskCLIP), "tokens" its
ordinary outputs. Where the pool reads the patches, all start from the last block's ordinary outputs, and what the
pool makes of one patch alone is the tower's to say. The pooled feature is the same in all cases. Where only special
tokens are read, the last block computes keys and values of all tokens and the rest for these alone.

Shapes: B images, N patches, S special tokens, L prompt tokens, T = S+N+L tokens, c width (d_v), d joint width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, LocalKind, VisualPrompts
from vlmprompt.backbones.vision.engine import ImageEngine
from vlmprompt.backbones.vision.grad_cam import weighted_map
from vlmprompt.backbones.vision.tower import TokenTower, require_local
from vlmprompt.errors import InputError


class TokenEngine(ImageEngine[TokenTower]):
    """See `VisionEngine`."""

    has_prompts = True

    def __init__(self, tower: TokenTower, autocast: Autocast = nullcontext) -> None:
        super().__init__(tower, autocast)
        self.layers = len(tower.blocks)

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,c) or (B,N,d) as `needs` says."""
        self._check(prompts)
        require_local(self, needs)
        with self._autocast():
            x_BTc, n_prompts = self._enter(images, prompts)
            for i, block in enumerate(self.tower.blocks[:-1]):
                x_BTc, n_prompts = _place(x_BTc, n_prompts, i, prompts)
                x_BTc = block.run(x_BTc)
            x_BTc, _ = _place(x_BTc, n_prompts, self.layers - 1, prompts)
            pooled_BC, local_BNC = self._last(x_BTc, needs.local)
            if local_BNC is not None and needs.space == "joint":
                local_BNC = self._project(local_BNC)
            return ImageFeatures(self._project(pooled_BC), local_BNC)

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        tower, reads_patches = self.tower, self.tower.pooled is None
        with torch.no_grad(), self._autocast():
            x_BTc, _ = self._enter(images, VisualPrompts())
            for block in tower.blocks if reads_patches else tower.blocks[:-1]:
                x_BTc = block.run(x_BTc)

        def pooled(x_BTc: Tensor) -> Tensor:
            with self._autocast():
                return self._project(tower.pool(x_BTc) if reads_patches else self._last(x_BTc, None)[0])

        return weighted_map(x_BTc, pooled, target, first=tower.n_special)

    def _enter(self, images: Tensor, prompts: VisualPrompts) -> tuple[Tensor, int]:
        """The first block's input with the prompts of layer 0, unless those enter behind it: (B,T,c) and L."""
        x_BTc = self.tower.embed(images)
        if 0 not in prompts or prompts.after_ln_pre:
            return self.tower.enter(x_BTc), 0
        return self.tower.enter(_append(x_BTc, prompts[0])), len(prompts[0])

    def _last(self, x_BTc: Tensor, local: LocalKind | None) -> tuple[Tensor, Tensor | None]:
        """The last block and the pool: pooled (B,C) and local (B,N,C), both before the projection."""
        tower, block = self.tower, self.tower.blocks[-1]
        patches = slice(tower.n_special, tower.n_special + self.n_local)
        if tower.pooled is None or local == "tokens":
            out_BTc = block.run(x_BTc)[:, : patches.stop]
            pooled_BC = tower.pool(out_BTc if tower.pooled is None else out_BTc[:, : tower.pooled])
            return pooled_BC, None if local is None else tower.local(out_BTc[:, patches], local)
        pooled_BC = tower.pool(block.head(x_BTc, tower.pooled))
        if local is None:
            return pooled_BC, None
        alone = block.alone if local == "value_block" else block.value_path
        return pooled_BC, tower.local(alone(x_BTc[:, patches]), local)

    def _check(self, prompts: VisualPrompts) -> None:
        layers = sorted(prompts)
        if not layers:
            return
        if layers != list(range(layers[0], layers[-1] + 1)) or layers[0] < 0 or layers[-1] >= self.layers:
            raise InputError(f"visual prompts must name consecutive layers of 0 to {self.layers - 1}, not {layers}")
        shapes = {tuple(prompts[i].shape) for i in layers}
        if len(shapes) != 1 or next(iter(shapes))[-1] != self.width:
            raise InputError(f"visual prompts must all have one shape (L, {self.width}), not {sorted(shapes)}")


def _append(x_BTc: Tensor, prompt_Lc: Tensor) -> Tensor:
    return torch.cat([x_BTc, prompt_Lc.to(x_BTc.dtype).expand(len(x_BTc), -1, -1)], dim=1)


def _place(x_BTc: Tensor, n_prompts: int, layer: int, prompts: VisualPrompts) -> tuple[Tensor, int]:
    """Bring the prompt tokens of a layer into its input; returns the tokens and how many prompts they hold."""
    entered_before = layer == 0 and n_prompts > 0
    if layer in prompts and not entered_before:
        kept_BTc = x_BTc[:, : x_BTc.shape[1] - n_prompts]
        return _append(kept_BTc, prompts[layer]), len(prompts[layer])
    if n_prompts and prompts.drop_after and layer > max(prompts):
        return x_BTc[:, :-n_prompts], 0
    return x_BTc, n_prompts
