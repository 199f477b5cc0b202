"""Initial values that several methods share, drawn from a given generator.

Shapes: V context tokens, D text width, d joint width.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.errors import InputError
from vlmprompt.methods.config import ContextConfig

INIT_STD = 0.02
SQUEEZE = 16  # of the image feature in a meta-net


def initial_context(
    options: ContextConfig, engine: TextEngine, generator: torch.Generator, *, lead: tuple[int, ...] = ()
) -> Tensor:
    """Contexts (*lead,V,D): the embeddings of `ctx_init`, else N(0, 0.02^2) of `n_ctx` tokens.

    Warns where `n_ctx` was set to another number than that of the words, which decide.

    Raises:
        InputError: `ctx_init` holds no words.
    """
    if not options.ctx_init:
        return gaussian(*lead, options.n_ctx, engine.width, generator=generator)
    ctx_VD = embedded_words(engine, options.ctx_init)
    if options.n_ctx not in (type(options).model_fields["n_ctx"].default, len(ctx_VD)):
        warnings.warn(
            f"n_ctx = {options.n_ctx} has no effect: {options.ctx_init!r} is {len(ctx_VD)} tokens", stacklevel=3
        )
    return ctx_VD.expand(*lead, -1, -1).clone()


def embedded_words(engine: TextEngine, words: str) -> Tensor:
    """Token embeddings (V,D) of initial words; underscores are read as spaces.

    Raises:
        InputError: the text holds no words.
    """
    ctx_VD = engine.embed_words(words.replace("_", " "))
    if not len(ctx_VD):
        raise InputError(f"ctx_init {words!r} holds no words", hint='such as "a photo of a"')
    return ctx_VD


def gaussian(*shape: int, generator: torch.Generator) -> Tensor:
    """N(0, 0.02^2), the usual start of prompt tokens."""
    return INIT_STD * torch.randn(shape, generator=generator)


def seeded_linear(d_in: int, d_out: int, *, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """A linear map with PyTorch's initial values (uniform within 1/sqrt(d_in)), not from its global generator."""
    with torch.random.fork_rng(devices=[]):  # `skip_init` would draw nothing, and import torch's compiler, for a second
        linear = nn.Linear(d_in, d_out, bias=bias)
    bound = d_in**-0.5
    for parameter in linear.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return linear


def meta_net(d: int, D: int, *, generator: torch.Generator) -> nn.Sequential:
    """What shifts a context by the image: linear to d/16, ReLU, linear to D (CoCoOp, Zhou et al., CVPR 2022)."""
    narrow = max(d // SQUEEZE, 1)
    return nn.Sequential(
        seeded_linear(d, narrow, generator=generator), nn.ReLU(), seeded_linear(narrow, D, generator=generator)
    )
