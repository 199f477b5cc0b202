"""The engine of image transformers: pooled and local features, with prompt tokens in any layer.

Local features come in four definitions. Where the pool reads special tokens alone, the last attention is what
gathers the patches: "value_block" is the last block with its attention matrix replaced by the identity (GalLoP's,
LoCoOp's and GL-MCM's code), "value_only" its value path alone, without residual and MLP (MaskCLIP), "tokens" its
ordinary outputs. Where the pool reads the patches, all start from the last block's ordinary outputs, and what the
pool makes of one patch alone is the tower's to say. "value_attention" starts from a second path through all blocks,
see `_along_values`. The pooled feature is the same in all cases. Where only special tokens are read, the last block is
asked for these alone, and where prompts leave behind a block or others take their place, it is asked for all tokens but
them. Outputs of prompts are what `local` makes of them as "tokens".

Shapes: B images, N patches, S special tokens, L prompt tokens, T = S+N+L tokens, c width (d_v), d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from vlmprompt.backbones.adapting import adaptable, adapted
from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, LocalKind, VisualPrompts
from vlmprompt.backbones.unrecorded import plainly
from vlmprompt.backbones.vision.attended import FirstAttention, weighted_attention
from vlmprompt.backbones.vision.engine import ImageEngine
from vlmprompt.backbones.vision.grad_cam import weighted_channels, weighted_map
from vlmprompt.backbones.vision.prompted import append, beside, left, unread
from vlmprompt.backbones.vision.tower import (
    ImageBlock,
    TokenTower,
    ValueAttentionBlock,
    no_gradient,
    require_places,
    require_prompt_outputs,
)
from vlmprompt.errors import CapabilityError, InputError

# Pooled (B,C), local (B,N,C) and outputs of prompts (B,L,C), all before the projection.
_Outputs = tuple[Tensor, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class _Last:
    """A pass that has come to the last block.

    Attributes:
        block: with the deltas of this pass.
        x_BTc: its input, prompts included.
        path_BNc: the patches' path along values, this block included; None unless it is needed.
    """

    block: ImageBlock
    x_BTc: Tensor
    path_BNc: Tensor | None


class TokenEngine(ImageEngine[TokenTower]):
    """See `VisionEngine`."""

    has_prompts = True

    def __init__(self, tower: TokenTower, autocast: Autocast = nullcontext) -> None:
        super().__init__(tower, autocast)
        self.layers = len(tower.blocks)
        self.takes_deltas = adaptable(tower.blocks)

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,C) or (B,N,d) as `needs` says."""
        self._check(needs, prompts)
        with self._autocast():
            return self._finish(self._before_last(images, needs, prompts), needs)

    def encode_each(self, images: Tensor, needs: Sequence[ImageNeeds]) -> list[ImageFeatures]:
        """See `VisionEngine.encode_each`; what differs between needs is the last block and what follows it."""
        prompts = VisualPrompts()
        for one in needs:
            self._check(one, prompts)
        along = next((one for one in needs if one.local == "value_attention"), needs[0])
        found: dict[LocalKind | None, _Outputs] = {}
        with self._autocast():
            last = self._before_last(images, along, prompts)
            for one in needs:
                if one.local not in found:
                    found[one.local] = self._last(self._of(last, one), one)
            return [self._features(*found[one.local], one) for one in needs]

    def shares_global(self, needs: ImageNeeds) -> bool:
        """See `VisionEngine.shares_global`; "tokens" have the last block compute more than the pool reads."""
        return not needs.prompt_outputs and (needs.local != "tokens" or self.tower.pooled is None)

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        tower, reads_patches = self.tower, self.tower.pooled is None
        with torch.no_grad(), self._autocast():
            last = self._before_last(images, ImageNeeds(), VisualPrompts())
            x_BTc = last.block.run(last.x_BTc) if reads_patches else last.x_BTc

        def pooled(x_BTc: Tensor) -> Tensor:
            with self._autocast():
                before = replace(last, x_BTc=x_BTc)
                return self._project(tower.pool(x_BTc) if reads_patches else self._last(before, ImageNeeds())[0])

        return weighted_map(x_BTc, pooled, target, first=tower.n_special)

    def class_map(
        self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts, target: Callable[[ImageFeatures], Tensor]
    ) -> Tensor:
        """See `VisionEngine.class_map`."""
        self._check(needs, prompts)
        require_places(self)
        with torch.no_grad(), self._autocast():
            last = self._before_last(images, needs, prompts)
        return (self._grad_cam if self.tower.pooled is None else self._attended)(last, needs, target)

    def _attended(self, last: _Last, needs: ImageNeeds, target: Callable[[ImageFeatures], Tensor]) -> Tensor:
        """Gradient-weighted attention of the last block."""
        tower, attention = self.tower, FirstAttention()
        with torch.enable_grad(), self._autocast(), attention, plainly():
            features = self._finish(last, needs)
        matrix_BHQT = attention.matrix_BHQT
        if matrix_BHQT is None:
            raise CapabilityError(
                f"the last block of this {self.kind} attends by code of its own, so its attention cannot be seen"
            )
        with torch.enable_grad():
            found = target(features).sum()
            grads = torch.autograd.grad(found, matrix_BHQT, allow_unused=True) if found.requires_grad else (None,)
        assert tower.pooled is not None
        prompts = range(self._n_own, last.x_BTc.shape[1]) if needs.prompt_outputs else ()
        read = [*range(tower.pooled), *prompts]
        if grads[0] is None or not grads[0][:, :, read].any():
            raise no_gradient(self.kind)
        return weighted_attention(matrix_BHQT, grads[0], read=read, first=tower.n_special, n=self.n_local)

    def _grad_cam(self, last: _Last, needs: ImageNeeds, target: Callable[[ImageFeatures], Tensor]) -> Tensor:
        """Grad-CAM of the last block's output."""
        with torch.no_grad(), self._autocast():
            out_BTc = last.block.run(last.x_BTc)
        with torch.enable_grad():
            out_BTc.requires_grad_()
            with self._autocast():
                features = self._features(*self._read(out_BTc, last, needs), needs)
            (grad_BTc,) = torch.autograd.grad(target(features).sum(), out_BTc)
        patches = slice(self.tower.n_special, self._n_own)
        return weighted_channels(out_BTc.detach()[:, patches], grad_BTc[:, patches])

    def _before_last(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> _Last:
        """All blocks but the last."""
        blocks = adapted(self.tower.blocks, prompts.deltas)
        path_BNc = None
        embedded_BTc = self.tower.embed(images)
        x_BTc, n_own = self.tower.enter(embedded_BTc), embedded_BTc.shape[1]
        for i, block in enumerate(blocks):
            prompts_Lc = self._entering(prompts, i, embedded_BTc.dtype)
            if prompts_Lc is not None or left(prompts, i):
                x_BTc = x_BTc[:, :n_own]
            if prompts_Lc is not None and unread(prompts, i, self.layers, needs):
                x_BTc = beside(block, x_BTc, prompts_Lc)
                continue
            if prompts_Lc is not None:
                x_BTc = append(x_BTc, prompts_Lc)
            if needs.local == "value_attention":
                path_BNc = self._along_values(cast("ValueAttentionBlock", block), x_BTc, path_BNc)
            if i < self.layers - 1:
                x_BTc = block.run(x_BTc)
        return _Last(blocks[-1], x_BTc, path_BNc)

    @staticmethod
    def _of(last: _Last, needs: ImageNeeds) -> _Last:
        """The same pass for other needs: a path along values is read where it is asked for, and nowhere else."""
        return last if needs.local == "value_attention" else replace(last, path_BNc=None)

    def _along_values(self, block: ValueAttentionBlock, x_BTc: Tensor, path_BNc: Tensor | None) -> Tensor:
        """The patches' path one block on, of the block's input (SOT-GLP's code).

        With x_i the input of block i and s_i its attention by values, the path is x_0 + o_0 + sum_i s_i, where o_0 is
        the ordinary attention of the first block: that code adds it in place to the tensor that the path starts as. No
        MLP is on it.
        """
        patches = slice(self.tower.n_special, self._n_own)
        start_BNc = (x_BTc + block.attention(x_BTc))[:, patches] if path_BNc is None else path_BNc
        return start_BNc + block.value_attention(x_BTc)[:, patches]

    def _finish(self, last: _Last, needs: ImageNeeds) -> ImageFeatures:
        """Last block, pool and projection."""
        return self._features(*self._last(last, needs), needs)

    def _features(
        self, pooled_BC: Tensor, local_BNC: Tensor | None, prompts_BLC: Tensor | None, needs: ImageNeeds
    ) -> ImageFeatures:
        if local_BNC is not None and needs.space == "joint":
            local_BNC = self._project(local_BNC)
        return ImageFeatures(self._project(pooled_BC), local_BNC, prompts_BLC=prompts_BLC)

    def _entering(self, prompts: VisualPrompts, layer: int, dtype: torch.dtype) -> Tensor | None:
        """The prompts that enter at a layer (L,c), those of layer 0 through what all tokens enter by."""
        if layer != 0 or 0 not in prompts or prompts.after_ln_pre:
            return prompts.get(layer)
        return self.tower.enter(prompts[0][None].to(dtype))[0]

    @property
    def _n_own(self) -> int:
        """S+N, the tokens before those of prompts."""
        return self.tower.n_special + self.n_local

    def _last(self, last: _Last, needs: ImageNeeds) -> _Outputs:
        """The last block and the pool."""
        tower, block, x_BTc = self.tower, last.block, last.x_BTc
        if tower.pooled is None or needs.local == "tokens":
            return self._read(block.run(x_BTc), last, needs)
        prompts_BLC = None
        if needs.prompt_outputs:
            pooled_BC, _, prompts_BLC = self._read(block.run(x_BTc), last, replace(needs, local=None))
        else:
            pooled_BC = tower.pool(block.head(x_BTc, tower.pooled))
        if needs.local is None:
            return pooled_BC, None, prompts_BLC
        path_BNc = last.path_BNc
        if path_BNc is None:
            alone = block.alone if needs.local == "value_block" else block.value_path
            path_BNc = alone(x_BTc[:, tower.n_special : self._n_own])
        return pooled_BC, tower.local(path_BNc, needs.local), prompts_BLC

    def _read(self, out_BTc: Tensor, last: _Last, needs: ImageNeeds) -> _Outputs:
        """The pool, local features and outputs of prompts, of all outputs of the last block."""
        tower, n_own = self.tower, self._n_own
        pooled_BC = tower.pool(out_BTc[:, : n_own if tower.pooled is None else tower.pooled])
        path_BNc = out_BTc[:, tower.n_special : n_own] if last.path_BNc is None else last.path_BNc
        local_BNC = None if needs.local is None else tower.local(path_BNc, needs.local)
        prompts_BLC = tower.local(out_BTc[:, n_own:], "tokens") if needs.prompt_outputs else None
        return pooled_BC, local_BNC, prompts_BLC

    def _check(self, needs: ImageNeeds, prompts: VisualPrompts) -> None:
        self.require(needs)
        require_prompt_outputs(self, needs, prompts)
        layers = sorted(prompts)
        if not layers:
            return
        if layers != list(range(layers[0], layers[-1] + 1)) or layers[0] < 0 or layers[-1] >= self.layers:
            raise InputError(f"visual prompts must name consecutive layers of 0 to {self.layers - 1}, not {layers}")
        shapes = {tuple(prompts[i].shape) for i in layers}
        if len(shapes) != 1 or next(iter(shapes))[-1] != self.width:
            raise InputError(f"visual prompts must all have one shape (L, {self.width}), not {sorted(shapes)}")
