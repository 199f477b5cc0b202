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

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from vlmprompt.backbones.adapting import adaptable, adapted
from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, LocalKind, VisualPrompts
from vlmprompt.backbones.vision.attended import FirstAttention, weighted_attention
from vlmprompt.backbones.vision.engine import ImageEngine
from vlmprompt.backbones.vision.grad_cam import weighted_channels, weighted_map
from vlmprompt.backbones.vision.tower import ImageBlock, TokenTower, no_gradient, require_local, require_places
from vlmprompt.errors import CapabilityError, InputError


class TokenEngine(ImageEngine[TokenTower]):
    """See `VisionEngine`."""

    has_prompts = True

    def __init__(self, tower: TokenTower, autocast: Autocast = nullcontext) -> None:
        super().__init__(tower, autocast)
        self.layers = len(tower.blocks)
        self.takes_deltas = adaptable(tower.blocks)

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,c) or (B,N,d) as `needs` says."""
        self._check(prompts)
        require_local(self, needs)
        with self._autocast():
            blocks = adapted(self.tower.blocks, prompts.deltas)
            return self._finish(self._before_last(images, prompts, blocks), needs, blocks[-1])

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        tower, reads_patches = self.tower, self.tower.pooled is None
        with torch.no_grad(), self._autocast():
            x_BTc, _ = self._enter(images, VisualPrompts())
            for block in tower.blocks if reads_patches else tower.blocks[:-1]:
                x_BTc = block.run(x_BTc)

        def pooled(x_BTc: Tensor) -> Tensor:
            with self._autocast():
                last = tower.blocks[-1]
                return self._project(tower.pool(x_BTc) if reads_patches else self._last(x_BTc, None, last)[0])

        return weighted_map(x_BTc, pooled, target, first=tower.n_special)

    def class_map(
        self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts, target: Callable[[ImageFeatures], Tensor]
    ) -> Tensor:
        """See `VisionEngine.class_map`."""
        self._check(prompts)
        require_local(self, needs)
        require_places(self)
        with torch.no_grad(), self._autocast():
            blocks = adapted(self.tower.blocks, prompts.deltas)
            x_BTc = self._before_last(images, prompts, blocks)
        return (self._grad_cam if self.tower.pooled is None else self._attended)(x_BTc, needs, target, blocks[-1])

    def _attended(
        self, x_BTc: Tensor, needs: ImageNeeds, target: Callable[[ImageFeatures], Tensor], last: ImageBlock
    ) -> Tensor:
        """Gradient-weighted attention of the last block, of its input."""
        tower, attention = self.tower, FirstAttention()
        with torch.enable_grad(), self._autocast(), attention:
            features = self._finish(x_BTc, needs, last)
        matrix_BHQT = attention.matrix_BHQT
        if matrix_BHQT is None:
            raise CapabilityError(
                f"the last block of this {self.kind} attends by code of its own, so its attention cannot be seen"
            )
        with torch.enable_grad():
            found = target(features).sum()
            grads = torch.autograd.grad(found, matrix_BHQT, allow_unused=True) if found.requires_grad else (None,)
        assert tower.pooled is not None
        if grads[0] is None or not grads[0][:, :, : tower.pooled].any():
            raise no_gradient(self.kind)
        return weighted_attention(matrix_BHQT, grads[0], read=tower.pooled, first=tower.n_special, n=self.n_local)

    def _grad_cam(
        self, x_BTc: Tensor, needs: ImageNeeds, target: Callable[[ImageFeatures], Tensor], last: ImageBlock
    ) -> Tensor:
        """Grad-CAM of the last block's output, of its input."""
        with torch.no_grad(), self._autocast():
            out_BTc = self._run_last(x_BTc, last)
        with torch.enable_grad():
            out_BTc.requires_grad_()
            with self._autocast():
                features = self._features(self.tower.pool(out_BTc), self._local(out_BTc, needs.local), needs)
            (grad_BTc,) = torch.autograd.grad(target(features).sum(), out_BTc)
        patches = slice(self.tower.n_special, None)
        return weighted_channels(out_BTc.detach()[:, patches], grad_BTc[:, patches])

    def _before_last(self, images: Tensor, prompts: VisualPrompts, blocks: Sequence[ImageBlock]) -> Tensor:
        """The last block's input, prompts included: (B,T,c)."""
        x_BTc, n_prompts = self._enter(images, prompts)
        for i, block in enumerate(blocks[:-1]):
            x_BTc, n_prompts = _place(x_BTc, n_prompts, i, prompts)
            x_BTc = block.run(x_BTc)
        return _place(x_BTc, n_prompts, self.layers - 1, prompts)[0]

    def _finish(self, x_BTc: Tensor, needs: ImageNeeds, last: ImageBlock) -> ImageFeatures:
        """Last block, pool and projection."""
        return self._features(*self._last(x_BTc, needs.local, last), needs)

    def _features(self, pooled_BC: Tensor, local_BNC: Tensor | None, needs: ImageNeeds) -> ImageFeatures:
        if local_BNC is not None and needs.space == "joint":
            local_BNC = self._project(local_BNC)
        return ImageFeatures(self._project(pooled_BC), local_BNC)

    def _enter(self, images: Tensor, prompts: VisualPrompts) -> tuple[Tensor, int]:
        """The first block's input with the prompts of layer 0, unless those enter behind it: (B,T,c) and L."""
        x_BTc = self.tower.embed(images)
        if 0 not in prompts or prompts.after_ln_pre:
            return self.tower.enter(x_BTc), 0
        return self.tower.enter(_append(x_BTc, prompts[0])), len(prompts[0])

    def _last(self, x_BTc: Tensor, local: LocalKind | None, block: ImageBlock) -> tuple[Tensor, Tensor | None]:
        """The last block and the pool: pooled (B,C) and local (B,N,C), both before the projection."""
        tower = self.tower
        patches = slice(tower.n_special, tower.n_special + self.n_local)
        if tower.pooled is None or local == "tokens":
            out_BTc = self._run_last(x_BTc, block)
            pooled_BC = tower.pool(out_BTc if tower.pooled is None else out_BTc[:, : tower.pooled])
            return pooled_BC, self._local(out_BTc, local)
        pooled_BC = tower.pool(block.head(x_BTc, tower.pooled))
        if local is None:
            return pooled_BC, None
        alone = block.alone if local == "value_block" else block.value_path
        return pooled_BC, tower.local(alone(x_BTc[:, patches]), local)

    def _run_last(self, x_BTc: Tensor, block: ImageBlock) -> Tensor:
        """The last block's outputs without those of prompts: (B,S+N,c)."""
        return block.run(x_BTc)[:, : self.tower.n_special + self.n_local]

    def _local(self, out_BTc: Tensor, local: LocalKind | None) -> Tensor | None:
        """Local features of the last block's outputs: (B,N,C)."""
        return None if local is None else self.tower.local(out_BTc[:, self.tower.n_special :], local)

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
