"""The image engine: pooled and local features, with prompt tokens in any layer of a ViT.

Local features come in three definitions: "value_block" (the last block with its attention matrix replaced
by the identity: GalLoP's, LoCoOp's and GL-MCM's code), "tokens" (the last block's ordinary outputs; for a
ResNet all outputs of the attention pool, PLOT's code) and "value_only" (MaskCLIP: the value path alone,
without residual and MLP). The pooled feature is the same in all cases. Where only it is read, the last
block computes keys and values of all tokens and the rest for the class token alone.

Shapes: B images, N patches, L prompt tokens, T = 1+N+L tokens, c width (d_v), d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.blocks import attend_to_itself, feed_forward, pool_block, run_block
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, LocalKind, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError

Autocast = Callable[[], AbstractContextManager[Any]]


class VisionEngine(Protocol):
    """What the toolkit needs of an image tower.

    Attributes:
        width: d_v, width of prompt tokens and of "pre_proj" local features.
        layers: transformer layers (0 for a ResNet).
        joint_dim: d.
        n_local: N local positions.
        has_prompts: whether prompt tokens can be put in.
        projection: (c,d), takes "pre_proj" local features to joint space; None where that is one space.
    """

    width: int
    layers: int
    joint_dim: int
    n_local: int
    has_prompts: bool

    @property
    def projection(self) -> Tensor | None: ...

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of (B,3,H,W) images, under the caller's gradient mode."""

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """Where in (B,3,H,W) images something is seen: (B,N), not negative, not normalised.

        ReLU of the last feature map's channels, summed with the means of their gradients over positions as
        weights (Grad-CAM, Selvaraju et al., ICCV 2017). That map is the last block's input in a ViT (its outputs at
        patches do not reach the pooled feature) and the last stage's output in a ResNet.

        Args:
            target: (B,d) pooled features -> (B,) what is looked for.
        """


@dataclass(frozen=True)
class VisionTower:
    """The parts of a ViT with a class token."""

    conv1: Any
    class_embedding: Tensor
    positional_embedding: Tensor
    ln_pre: Any
    blocks: Sequence[Any]
    ln_post: Any
    proj: Tensor | None


class ViTEngine:
    """Image engine of a vision transformer."""

    has_prompts = True

    def __init__(self, tower: VisionTower, joint_dim: int, autocast: Autocast = nullcontext) -> None:
        self._tower = tower
        self._autocast = autocast
        self.width = tower.class_embedding.shape[-1]
        self.layers = len(tower.blocks)
        self.joint_dim = joint_dim
        self.n_local = len(tower.positional_embedding) - 1

    @property
    def projection(self) -> Tensor | None:
        """The tower's last linear map (c,d)."""
        return self._tower.proj

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,c) or (B,N,d) as `needs` says."""
        self._check(prompts)
        with self._autocast():
            x_BTc, n_prompts = self._enter(images, prompts)
            for i, block in enumerate(self._tower.blocks[:-1]):
                x_BTc, n_prompts = _place(x_BTc, n_prompts, i, prompts)
                x_BTc = run_block(block, x_BTc, causal=False)[0]
            x_BTc, _ = _place(x_BTc, n_prompts, self.layers - 1, prompts)
            pooled_Bc, local_BNc = self._last(x_BTc, needs.local)
            if local_BNc is not None and needs.space == "joint":
                local_BNc = self._project(local_BNc)
            return ImageFeatures(self._project(pooled_Bc), local_BNc)

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        with torch.no_grad(), self._autocast():
            x_BTc, _ = self._enter(images, VisualPrompts())
            for block in self._tower.blocks[:-1]:
                x_BTc = run_block(block, x_BTc, causal=False)[0]

        def pooled(x_BTc: Tensor) -> Tensor:
            with self._autocast():
                return self._project(self._last(x_BTc, None)[0])

        return _grad_cam(x_BTc, pooled, target, first=1)

    def _enter(self, images: Tensor, prompts: VisualPrompts) -> tuple[Tensor, int]:
        """Patches, class token, positions, layer-0 prompts and `ln_pre`: (B,T,c) and L."""
        tower = self._tower
        patches_BNc = tower.conv1(images).flatten(2).transpose(1, 2)
        cls_B1c = tower.class_embedding.to(patches_BNc.dtype).expand(len(images), 1, -1)
        x_BTc = torch.cat([cls_B1c, patches_BNc], dim=1) + tower.positional_embedding.to(patches_BNc.dtype)
        if 0 not in prompts or prompts.after_ln_pre:
            return tower.ln_pre(x_BTc), 0
        return tower.ln_pre(_append(x_BTc, prompts[0])), len(prompts[0])

    def _last(self, x_BTc: Tensor, local: LocalKind | None) -> tuple[Tensor, Tensor | None]:
        """The last block: pooled (B,c) and local (B,N,c), both after `ln_post`."""
        block, ln_post = self._tower.blocks[-1], self._tower.ln_post
        patches = slice(1, 1 + self.n_local)
        if local == "tokens":
            out_BTc = ln_post(run_block(block, x_BTc, causal=False)[0])
            return out_BTc[:, 0], out_BTc[:, patches]
        pooled_Bc = ln_post(pool_block(block, x_BTc)[:, 0])
        if local is None:
            return pooled_Bc, None
        x_BNc = x_BTc[:, patches]
        value_BNc = attend_to_itself(block, block.ln_1(x_BNc))
        if local == "value_block":
            value_BNc = feed_forward(block, x_BNc + block.ls_1(value_BNc))
        return pooled_Bc, ln_post(value_BNc)

    def _project(self, x: Tensor) -> Tensor:
        return x if self._tower.proj is None else x @ self._tower.proj

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


def _grad_cam(
    map_BTc: Tensor, pooled: Callable[[Tensor], Tensor], target: Callable[[Tensor], Tensor], *, first: int
) -> Tensor:
    """See `VisionEngine.grad_cam`; of the map's T tokens the first may be a class token, which has no place."""
    with torch.enable_grad():
        map_BTc = map_BTc.detach().requires_grad_()
        (grad_BTc,) = torch.autograd.grad(target(pooled(map_BTc)).sum(), map_BTc)
    map_BNc, grad_BNc = map_BTc.detach()[:, first:], grad_BTc[:, first:]
    return (map_BNc * grad_BNc.mean(dim=1, keepdim=True)).sum(dim=-1).relu()


class ResNetEngine:
    """Image engine of CLIP's ModifiedResNet: convolutions, then an attention pool.

    "pre_proj" and "joint" are the same space here: a trained map of local features sits behind `c_proj`.
    "value_only" equals "value_block": there is no residual or MLP to leave out.
    """

    has_prompts = False
    layers = 0
    projection: Tensor | None = None

    def __init__(self, visual: Any, joint_dim: int, autocast: Autocast = nullcontext) -> None:
        self._visual = visual
        self._autocast = autocast
        self.joint_dim = joint_dim
        self.width = joint_dim
        self.n_local = len(visual.attnpool.positional_embedding) - 1

    def grad_cam(self, images: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """See `VisionEngine.grad_cam`."""
        with torch.no_grad(), self._autocast():
            f_BNc = self._map(images)

        def pooled(f_BNc: Tensor) -> Tensor:
            with self._autocast():
                return self._attention_pool(f_BNc, all_queries=False)[:, 0]

        return _grad_cam(f_BNc, pooled, target, first=0)

    def _map(self, images: Tensor) -> Tensor:
        """The last stage's output (B,N,c)."""
        v = self._visual
        x: Tensor = v.layer4(v.layer3(v.layer2(v.layer1(v.stem(images)))))
        return x.flatten(2).transpose(1, 2)

    def encode(self, images: Tensor, needs: ImageNeeds, prompts: VisualPrompts) -> ImageFeatures:
        """Features of images (B,3,H,W): global (B,d), local (B,N,d)."""
        if prompts:
            raise CapabilityError("visual prompts need a ViT image tower; this backbone's is a ResNet")
        with self._autocast():
            v, f_BNc = self._visual, self._map(images)
            pooled_BQd = self._attention_pool(f_BNc, all_queries=needs.local == "tokens")
            local_BNd = None
            if needs.local == "tokens":
                local_BNd = pooled_BQd[:, 1:]
            elif needs.local is not None:
                local_BNd = v.attnpool.c_proj(v.attnpool.v_proj(f_BNc))
            return ImageFeatures(pooled_BQd[:, 0], local_BNd)

    def _attention_pool(self, f_BNc: Tensor, *, all_queries: bool) -> Tensor:
        """The pool over [mean, positions]; queries of all tokens or of the mean token alone."""
        pool = self._visual.attnpool
        x_BTc = torch.cat([f_BNc.mean(dim=1, keepdim=True), f_BNc], dim=1)
        x_BTc = x_BTc + pool.positional_embedding.to(x_BTc.dtype)
        asked_BQc = x_BTc if all_queries else x_BTc[:, :1]
        q, k, v = (
            proj(tokens).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for proj, tokens in ((pool.q_proj, asked_BQc), (pool.k_proj, x_BTc), (pool.v_proj, x_BTc))
        )
        heads = F.scaled_dot_product_attention(q, k, v)
        pooled: Tensor = pool.c_proj(heads.transpose(1, 2).flatten(2))
        return pooled
