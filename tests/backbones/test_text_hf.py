"""Text encoders of Hugging Face, made on the spot from small configurations: values and gradients.

The plain way is open_clip's own wrapper on token ids, with an embedding module that gives context vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backbones.test_text import close
from tests.backbones.text_kinds import SLOTS, VOCABULARY, SpotTokenizer, WithContext
from vlmprompt.backbones.openclip.text import text_tower
from vlmprompt.backbones.openclip.tokens import words_of
from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import CapabilityError

transformers = pytest.importorskip("transformers")
hf_model = pytest.importorskip("open_clip.hf_model")

NAMES = ["horse", "red_panda", "2007 Chevrolet Silverado 1500 pickup"]
LAYERS = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
M2M = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 96}
MT5 = {"d_model": 64, "d_kv": 32, "d_ff": 96, "num_layers": 2, "num_heads": 2}
ROBERTA_TOKENS = {"start": (0,), "end": (2,), "pad": 1}
# Configuration, its values, tokens, pooler and projection, as open_clip's architectures of that encoder have them.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str, str]] = {
    "roberta": ("RobertaConfig", {**LAYERS, "max_position_embeddings": 60}, ROBERTA_TOKENS, "mean_pooler", "mlp"),
    "xlm-roberta": ("XLMRobertaConfig", LAYERS, ROBERTA_TOKENS, "mean_pooler", "mlp"),
    "mt5": ("MT5Config", MT5, {"end": (1,)}, "mean_pooler", "mlp"),
    "nllb": ("M2M100Config", {**M2M, "d_model": 64}, {"start": (150,), "end": (2,), "pad": 1}, "cls_pooler", "linear"),
    "bert": ("BertConfig", LAYERS, {"start": (101,), "end": (102,)}, "cls_last_hidden_state_pooler", "mlp"),
    "bert, own pooler": ("BertConfig", LAYERS, {"start": (101,), "end": (102,)}, "cls_pooler", "linear"),
}


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, SpotTokenizer]:
    """The wrapper, in eval mode, and its tokenizer."""
    config, values, tokens, pooler, projection = KINDS[request.param]
    folder: Path = tmp_path_factory.mktemp("encoder")
    getattr(transformers, config)(**values, vocab_size=VOCABULARY).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = hf_model.HFTextEncoder(str(folder), 48, pooler_type=pooler, proj_type=projection, pretrained=False)
        for parameter in text.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return text.eval().requires_grad_(False), SpotTokenizer(40, **tokens)


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
    prompts = TextPrompts(torch.zeros(1, 2, 64), deep={1: torch.zeros(1, 2, 64)})
    with pytest.raises(CapabilityError, match="takes no deep prompts"):
        engine.encode(prompts, engine.class_tokens(NAMES))
    with pytest.raises(
        CapabilityError, match=rf"hides the token {text.config.pad_token_id}, its tokenizer pads with 7"
    ):
        engine_of(text, SpotTokenizer(40, end=(2,), pad=7))
