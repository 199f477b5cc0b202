"""Text encoders of Hugging Face, made on the spot from small configurations: values and gradients.

The plain way is open_clip's own wrapper on token ids, with an embedding module that gives context vectors.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.backbones.hf_encoders import KINDS, encoder
from tests.backbones.test_text import close
from tests.backbones.text_kinds import SLOTS, SpotTokenizer, WithContext
from vlmprompt.backbones.openclip.text import text_tower
from vlmprompt.backbones.openclip.tokens import words_of
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import CapabilityError

pytest.importorskip("transformers")

NAMES = ["horse", "red_panda", "2007 Chevrolet Silverado 1500 pickup"]


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, SpotTokenizer]:
    """The wrapper, in eval mode, and its tokenizer."""
    return encoder(request.param, tmp_path_factory.mktemp("encoder"))


def engine_of(text: Any, tokenizer: SpotTokenizer) -> TextEngine:
    model = torch.nn.Module()
    model.text = text
    return TextEngine(text_tower(model, words_of(tokenizer), "made"))


def test_sentences_are_encode_text(made: tuple[Any, SpotTokenizer]) -> None:
    text, tokenizer = made
    texts = ["a photo of a cat.", "two dogs", "a longer caption of a few more words"]
    with torch.no_grad():
        close(engine_of(text, tokenizer).encode_sentences(texts), text(tokenizer(texts)))


@pytest.mark.parametrize(("scope", "position"), [("shared", "end"), ("class", "middle"), ("image", "front")])
@pytest.mark.parametrize("chunk", ["auto", 2])
def test_contexts(made: tuple[Any, SpotTokenizer], scope: Any, position: Any, chunk: Any) -> None:
    text, tokenizer = made
    engine, n_classes = engine_of(text, tokenizer), len(NAMES)
    lead = {"shared": (), "class": (n_classes,), "image": (2,)}[scope]
    ctx = torch.randn(*lead, 2, 3, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    classes = engine.class_tokens(NAMES)
    ours = engine.encode(TextPrompts(ctx, scope=scope, position=position), classes, chunk=chunk)
    at, slots = {"end": 3, "middle": 1, "front": 0}[position], list(range(SLOTS, SLOTS + 3))
    words = [tokenizer.bare(name.replace("_", " ") + ".") for name in NAMES]
    own = [len(tokenizer.bare(name.replace("_", " "))) for name in NAMES]
    ids = [[*slots[:at], *w[:n], *slots[at:], *w[n:]] for w, n in zip(words, own, strict=True)]
    rows = torch.tensor([tokenizer.row(row, 40) for row in ids])
    if scope == "class":
        ctx_QVD = ctx.transpose(0, 1).flatten(0, 1)
    else:
        ctx_QVD = ctx.reshape(-1, 3, 64).repeat_interleave(n_classes, dim=0)
    table = text.transformer.get_input_embeddings()
    text.transformer.set_input_embeddings(WithContext(table, ctx_QVD))
    try:
        plain = text(rows.repeat(len(ctx_QVD) // n_classes, 1))
    finally:
        text.transformer.set_input_embeddings(table)
    close(ours, plain.reshape(ours.shape))
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    pair = [torch.autograd.grad((out * weights).sum(), ctx)[0] for out in (ours, plain.reshape(ours.shape))]
    close(*pair)


def test_what_it_cannot_do_is_said(made: tuple[Any, SpotTokenizer]) -> None:
    text, tokenizer = made
    engine = engine_of(text, tokenizer)
    ctx, tokens = torch.zeros(1, 2, 64), {1: torch.zeros(1, 2, 64)}
    for prompts, told in (
        (TextPrompts(ctx, deep=tokens), "deep prompts"),
        (TextPrompts(ctx, inserted=tokens), "inserted"),
    ):
        with pytest.raises(CapabilityError, match=f"takes no {told}"):
            engine.encode(prompts, engine.class_tokens(NAMES))
    with pytest.raises(
        CapabilityError, match=rf"hides the token {text.config.pad_token_id}, its tokenizer pads with 7"
    ):
        engine_of(text, SpotTokenizer(40, end=(2,), pad=7))
