"""Text encoders of Hugging Face with random weights, from small configurations; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.backbones.text_kinds import VOCABULARY, SpotTokenizer

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


def encoder(kind: str, folder: Path) -> tuple[Any, SpotTokenizer]:
    """open_clip's wrapper of an encoder, in eval mode, and a tokenizer for it; the folder takes its configuration."""
    import transformers
    from open_clip.hf_model import HFTextEncoder

    config, values, tokens, pooler, projection = KINDS[kind]
    getattr(transformers, config)(**values, vocab_size=VOCABULARY).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = HFTextEncoder(str(folder), 48, pooler_type=pooler, proj_type=projection, pretrained=False)
        for parameter in text.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return text.eval().requires_grad_(False), SpotTokenizer(40, **tokens)
