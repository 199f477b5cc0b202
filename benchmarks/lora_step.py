"""A CLIP-LoRA step against the straightforward one: all positions of all texts, a pair of matrices in every attention.

Shapes: K classes, T tokens, D width, r rank, H heads, h = D/H.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.frame import Mark, Row, relative_error, side_by_side
from benchmarks.names import LONG, SHORT
from vlmprompt.api import Backbone, PromptMethod, build_method

IMAGES, RATE, GAMMA = 4, 0.25, 2**-0.5  # the method's defaults: alpha / sqrt(r) of 1 and 2
NAMES = (*SHORT, *LONG)

Steps = Sequence[Tensor]  # a loss, and the gradient of every matrix


def measure(repeats: int = 3) -> list[Row]:
    """The ratio of the steps without dropout, whose numbers can be compared, and with the method's own."""
    model, tokenizer, backbone = plain.build()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, 224, 224, generator=generator)
    labels = torch.randint(len(NAMES), (IMAGES,), generator=generator)
    ids = plain.tokens(tokenizer, [f"a photo of a {name}." for name in NAMES])
    seconds: dict[float, list[float]] = {}
    apart: dict[str, float] = {}
    for rate in (0.0, RATE):
        method = build_method("clip_lora", backbone, NAMES, {"dropout": rate}, generator=generator).train()
        for name, parameter in method.named_parameters():
            if name.endswith("B"):
                parameter.data.normal_(std=0.02, generator=generator)
        twin = with_matrices(model, dict(method.named_parameters()), rate)
        slow, fast = partial(plain_step, twin, method, images, labels, ids), partial(step, method, images, labels)
        found, reference = fast(), slow()
        if not rate:
            exact = step(in_double(model, tokenizer, method), images.double(), labels)
            apart = differences(found, reference, exact)
        seconds[rate] = side_by_side({slow: repeats, fast: repeats})
    (plain_s, engine_s), (plain_drop_s, engine_drop_s) = seconds[0.0], seconds[RATE]
    figures = {
        "plain s": plain_s,
        "engine s": engine_s,
        "ratio": plain_s / engine_s,
        "ratio with dropout": plain_drop_s / engine_drop_s,
        **apart,
    }
    marks = (
        Mark("ratio", plain_s / engine_s, 2),
        Mark("error of all gradients together", apart["engine to float64, all"], 2e-6, at_least=False),
    )
    return [Row("lora_step", f"ViT-B/16, r=2, q, k, v, both towers, K={len(NAMES)}, B={IMAGES}", figures, marks)]


def differences(engine: Steps, plain: Steps, exact: Steps) -> dict[str, float]:
    """How far two fp32 steps are from the one in float64, and from each other.

    Of loss and gradients: the worst tensor's largest difference over its largest value, and the norm of all
    differences over the norm of all values. The first is one of rounding: which tensor is the worst, and by how much,
    changes with the seed and with the number of threads, of either step.
    """
    pairs = {
        "engine to float64": (engine, exact),
        "plain to float64": (plain, exact),
        "engine to plain": (engine, plain),
    }
    worst = {name: max(map(relative_error, *pair)) for name, pair in pairs.items()}
    return worst | {f"{name}, all": relative_norm(*pair) for name, pair in pairs.items()}


def relative_norm(values: Steps, references: Steps) -> float:
    """Norm of the differences over the norm of the references, of all tensors together."""
    apart, whole = (torch.cat([t.flatten() for t in ts]).double() for ts in (values, references))
    return float((apart - whole).norm() / whole.norm())


def in_double(model: Any, tokenizer: Any, method: PromptMethod) -> PromptMethod:
    """The method with the same matrices on the same towers, in float64."""
    model = copy.deepcopy(model).double()
    model.attn_mask = model.attn_mask.double()
    twin = build_method("clip_lora", Backbone.from_model(model, tokenizer), NAMES, {"dropout": 0.0}).train()
    for own, other in zip(twin.parameters(), method.parameters(), strict=True):
        own.data = other.data.double()
    return twin


def step(method: PromptMethod, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Forward and backward: the loss, and the gradient of every matrix."""
    return _gradients(method, method.loss(method(images), labels).total)


def plain_step(model: Any, method: PromptMethod, images: Tensor, labels: Tensor, ids: Tensor) -> list[Tensor]:
    """The same through a model whose attentions hold the method's matrices."""
    image_Bd, text_Kd = model.encode_image(images), model.encode_text(ids)
    logits_BK = method.scale * F.normalize(image_Bd, dim=-1) @ F.normalize(text_Kd, dim=-1).T
    return _gradients(method, F.cross_entropy(logits_BK, labels))


def _gradients(method: PromptMethod, loss: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, list(method.parameters()))]


def with_matrices(model: Any, matrices: Mapping[str, nn.Parameter], rate: float) -> Any:
    """A copy of the model in which every attention is taken apart, with matrices beside its queries, keys and values.

    Args:
        matrices: `<text or visual>.<block>.<q, k or v>.<A or B>`.
    """
    model = copy.deepcopy(model)
    for tower, blocks in (("text", model.transformer.resblocks), ("visual", model.visual.transformer.resblocks)):
        for i, block in enumerate(blocks):
            pairs = [[matrices[f"{tower}.{i}.{part}.{side}"] for side in "AB"] for part in "qkv"]
            block.attn = Attention(block.attn, pairs, rate)
    return model


class LowRankLinear(nn.Module):
    """W x + b + gamma B A drop(x)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, pair: Sequence[nn.Parameter], rate: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.A, self.B = pair
        self.drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        """(*,in) -> (*,out)."""
        return F.linear(x, self.weight, self.bias) + GAMMA * F.linear(F.linear(self.drop(x), self.A), self.B)


class Attention(nn.Module):
    """Multi-head attention with three linear maps in place of one; it is called as torch's is."""

    def __init__(self, attn: Any, pairs: Sequence[Sequence[nn.Parameter]], rate: float) -> None:
        super().__init__()
        weights, biases = attn.in_proj_weight.detach().chunk(3), attn.in_proj_bias.detach().chunk(3)
        self.maps = nn.ModuleList(LowRankLinear(*own, rate) for own in zip(weights, biases, pairs, strict=True))
        self.out_proj, self.heads = attn.out_proj, attn.num_heads

    def forward(self, x: Tensor, *_: Tensor, attn_mask: Tensor | None = None, **options: Any) -> tuple[Tensor, None]:
        """(*,T,D) attends to itself."""
        q, k, v = (own(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for own in self.maps)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(out.transpose(-2, -3).flatten(-2)), None
