"""Text towers of the kinds that are served, in configurations that no published model has, against their own module.

One layer, odd widths and heads, short contexts, other MLPs, activations, norms and projections, tokenizers with two
start tokens or none: values and gradients of contexts, and of deep prompts where there is a layer for them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.backbones.test_text_kinds import grads_close
from tests.backbones.text_kinds import VOCABULARY, SmallText, SpotTokenizer, plain
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import CapabilityError

NAMES = ["horse", "red_panda", "a fox"]  # short enough for a context of 12
SPOT = {"context_length": 18, "vocab_size": VOCABULARY}
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any], SpotTokenizer | None]] = {
    "causal, one layer": ("ViT-B-32", {"layers": 1}, None),
    "causal, odd width, three heads": ("ViT-B-32-quickgelu", {"width": 60, "heads": 3, "mlp_ratio": 2.5}, None),
    "causal, 12 tokens, scaled layers": ("ViT-B-32", {"context_length": 12, "ls_init_value": 0.1}, None),
    "causal, projection with bias": ("ViT-B-32", {"proj_bias": True, "heads": 1}, None),
    "causal, two start and two end tokens": (
        "ViT-B-32",
        SPOT,
        SpotTokenizer(18, start=(1, 2), end=(VOCABULARY - 2, VOCABULARY - 1)),
    ),
    "causal, end token amid the ids": (
        "ViT-B-32",
        SPOT | {"pool_type": "eos", "eos_id": 3},
        SpotTokenizer(18, start=(1,), end=(3,), pad=5),
    ),
    "without a mask, end token": ("ViT-B-32", {"no_causal_mask": True}, None),
    "last position, 16 tokens": ("ViT-B-16-SigLIP2", {"context_length": 16, "layers": 3}, None),
    "last position, other activation and norm": (
        "ViT-B-16-SigLIP",
        {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}, "proj_bias": False},
        None,
    ),
    "last position, no projection": ("ViT-B-16-SigLIP2", {"proj_type": "none", "width": 48}, None),
    "end token, one layer, 20 tokens": ("MobileCLIP2-S0", {"layers": 1, "context_length": 20}, None),
    "end token, projection by an MLP's linear map": ("MobileCLIP2-S0", {"proj_type": "mlp", "width": 96}, None),
    "class token, one layer": ("coca_ViT-B-32", {"layers": 1}, None),
    "class token, 15 tokens, five heads": ("coca_ViT-B-32", {"context_length": 15, "width": 60, "heads": 5}, None),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_contexts_and_deep_prompts(name: str) -> None:
    text = SmallText(*CONFIGURATIONS[name])
    engine, n_classes = text.engine, len(NAMES)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, engine.width, generator=generator).requires_grad_()]
    if engine.layers > 1:
        inputs.append(torch.randn(2, 2, engine.width, generator=generator).requires_grad_())
    deep = dict(enumerate(inputs[1:], start=1))
    ours = engine.encode(TextPrompts(inputs[0], deep=deep), engine.class_tokens(NAMES))
    ctx_QVD, *deep_QSD = (tokens.repeat_interleave(n_classes, dim=0) for tokens in inputs)
    reference = plain(
        text.model,
        text.rows(NAMES, 3, "end").repeat(2, 1),
        ctx_QVD,
        dict(enumerate(deep_QSD, start=1)),
        first=len(engine.tower.words.start),
    )
    grads_close(ours, reference.reshape(ours.shape), inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool_type": "first"}, "reads at the first position, which sees nothing of what follows"),
        ({"pool_type": "none"}, "pools by 'none'"),
        ({"pool_type": "eos"}, "reads at token 2, its tokenizer ends with"),
    ],
)
def test_what_cannot_learn_from_a_context_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CapabilityError, match=message):
        SmallText("ViT-B-32", changes)
