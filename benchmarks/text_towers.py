"""Text towers that are not CLIP's, against open_clip's own module run plainly: forward and backward to the prompts.

As a script, `python -m benchmarks.text_towers K` measures SigLIP 2 text with K classes and prints JSON.

Shapes: K classes, P prompts, V context tokens, T positions, D width, d joint width.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest import mock

import open_clip
import torch
from torch import Tensor, nn

from benchmarks.classes_scale import OVERHEAD, forget_peak, in_fresh_process, peak_bytes
from benchmarks.frame import Mark, Row, relative_error, side_by_side
from vlmprompt.api import TextEngine, TextPrompts
from vlmprompt.backbones.openclip.text import text_tower
from vlmprompt.backbones.openclip.tokens import words_of
from vlmprompt.backbones.text.budget import ON_CPU, VARIABLE

CONTEXT = 4
VOCABULARY = 1000  # as many token rows as the classes need; their number is no cost
SLOT = 900  # ids from here on stand for context tokens in plain texts
ROOM_FOR_ALL = "8"  # gigabytes
TINY = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32}


def measure(repeats: int = 2) -> list[Row]:
    """SigLIP 2 within the budget of memory that is the default, and with room for all; CoCa."""
    towers = build("ViT-B-16-SigLIP2")
    siglip = compare(*towers, n_classes=100, n_prompts=1, repeats=repeats)
    with mock.patch.dict(os.environ, {VARIABLE: ROOM_FOR_ALL}):
        kept = compare(*towers, n_classes=100, n_prompts=1, repeats=repeats)
    gigabytes = {k: in_fresh_process("text_towers", k)["gigabytes"] for k in (100, 1000)}
    memory = (
        Mark("memory at K=1000 over K=100", gigabytes[1000] / gigabytes[100], 1.2, at_least=False),
        Mark("GB at K=1000", gigabytes[1000], ON_CPU / 1e9 + OVERHEAD, at_least=False),
    )
    coca = compare(*build("coca_ViT-B-32"), n_classes=50, n_prompts=8, repeats=repeats)
    used = {f"GB at K={k}": value for k, value in gigabytes.items()}
    return [
        Row("text_towers", "SigLIP 2 B/16 text, K=100, P=1, V=4", siglip | used, (*marks(siglip, 1.3), *memory)),
        Row("text_towers", f"the same, {VARIABLE}={ROOM_FOR_ALL}", kept, marks(kept, 1.3)),
        Row("text_towers", "CoCa B/32 text, K=50, P=8, V=4", coca, marks(coca, 8)),
    ]


def marks(figures: dict[str, float], ratio: float) -> tuple[Mark, ...]:
    """Speed, and that the numbers are the same."""
    errors = ("feature error", "gradient error")
    exact = (Mark(name, figures[name], 1e-5, at_least=False) for name in errors)
    return (Mark("ratio", figures["ratio"], ratio), *exact)


def build(architecture: str) -> tuple[Any, TextEngine]:
    """The text module of an architecture with random weights, and the engine on it."""
    config = open_clip.get_model_config(architecture)
    text_cfg = {**config["text_cfg"], "vocab_size": VOCABULARY}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # noqa: TID251 - open_clip's initialisation knows no generator
        model = open_clip.model.CustomTextCLIP(embed_dim=config["embed_dim"], vision_cfg=TINY, text_cfg=text_cfg)
    model.eval().requires_grad_(False)
    tokenizer = partial(rows, context_length=text_cfg["context_length"])
    return model.text, TextEngine(text_tower(model, words_of(tokenizer), architecture))


def rows(texts: Sequence[str], context_length: int) -> Tensor:
    """A tokenizer: the number of a class in three tokens between start and end, pads behind."""
    ids = []
    for text in texts:
        own = [10 + ord(letter) % 100 for letter in text][: context_length - 2]
        ids.append([2, *own, SLOT - 1, *[0] * (context_length - 2 - len(own))])
    return torch.tensor(ids)


def compare(text: Any, engine: TextEngine, *, n_classes: int, n_prompts: int, repeats: int) -> dict[str, float]:
    """Median seconds of both, their ratio, and how far the results are apart."""
    names = [f"{k:03d}" for k in range(n_classes)]
    ctx, grad_out = inputs(engine, n_classes, n_prompts)
    slow = partial(plain_step, text, plain_ids(names, engine.context_length), ctx, grad_out)
    fast = partial(engine_step, engine, engine.class_tokens(names, tail=""), ctx, grad_out)
    (features, gradient), (reference, reference_gradient) = fast(), slow()
    plain_s, engine_s = side_by_side({slow: repeats, fast: repeats})
    return {
        "plain s": plain_s,
        "engine s": engine_s,
        "ratio": plain_s / engine_s,
        "feature error": relative_error(features, reference),
        "gradient error": relative_error(gradient, reference_gradient),
    }


def inputs(engine: TextEngine, n_classes: int, n_prompts: int) -> tuple[Tensor, Tensor]:
    """A context (P,V,D) and a gradient of the features (P,K,d)."""
    generator = torch.Generator().manual_seed(0)
    ctx = 0.02 * torch.randn(n_prompts, CONTEXT, engine.width, generator=generator)
    return ctx, torch.randn(n_prompts, n_classes, engine.joint_dim, generator=generator)


def plain_ids(names: Sequence[str], length: int) -> Tensor:
    """(K,T) ids with placeholders of the context behind the start."""
    ids = rows(names, length - CONTEXT)
    slots = torch.arange(SLOT, SLOT + CONTEXT).expand(len(ids), -1)
    return torch.cat([ids[:, :1], slots, ids[:, 1:]], dim=1)


class WithContext(nn.Module):
    """Token embeddings with a context (V,D) in place of placeholders."""

    def __init__(self, table: nn.Module, ctx_VD: Tensor) -> None:
        super().__init__()
        self.table, self.ctx_VD = table, ctx_VD

    def forward(self, ids_KT: Tensor) -> Tensor:
        """(K,T,D)."""
        x_KTD = self.table(ids_KT)
        ctx_KVD = self.ctx_VD.expand(len(ids_KT), -1, -1)
        return torch.cat([x_KTD[:, :1], ctx_KVD, x_KTD[:, 1 + CONTEXT :]], dim=1)


def plain_step(text: Any, ids: Tensor, ctx: Tensor, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    """Features (P,K,d) and the gradient of the context, one prompt after the other."""
    ctx, table, features = ctx.clone().requires_grad_(), text.token_embedding, []
    for ctx_VD, grad_Kd in zip(ctx, grad_out, strict=True):
        text.token_embedding = WithContext(table, ctx_VD)
        out = text(ids)
        features_Kd = out[0] if isinstance(out, tuple) else out
        features_Kd.backward(grad_Kd)
        features.append(features_Kd.detach())
    text.token_embedding = table
    assert ctx.grad is not None
    return torch.stack(features), ctx.grad


def engine_step(engine: TextEngine, classes: Any, ctx: Tensor, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the engine."""
    ctx = ctx.clone().requires_grad_()
    features = engine.encode(TextPrompts(ctx), classes)
    features.backward(grad_out)
    assert ctx.grad is not None
    return features.detach(), ctx.grad


def one(n_classes: int) -> dict[str, float]:
    """The peak memory of the engine's first step above what the process held before."""
    _, engine = build("ViT-B-16-SigLIP2")
    classes = engine.class_tokens([f"{k:03d}" for k in range(n_classes)], tail="")
    step = partial(engine_step, engine, classes, *inputs(engine, n_classes, 1))
    before = forget_peak()
    step()
    return {"gigabytes": (peak_bytes() - before) / 1e9}


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]))))
