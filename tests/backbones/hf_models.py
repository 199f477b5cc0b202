"""Tiny models as Hugging Face keeps them: names, shapes and configurations of transformers, weights by a formula."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CLIP_CONFIG: dict[str, Any] = {
    "model_type": "clip",
    "architectures": ["CLIPModel"],
    "projection_dim": 24,
    "text_config": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "hidden_act": "gelu",
        "eos_token_id": 49407,
    },
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 32,
        "patch_size": 8,
        "hidden_act": "gelu",
    },
}
SIGLIP_CONFIG: dict[str, Any] = {
    "model_type": "siglip",
    "architectures": ["SiglipModel"],
    "text_config": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 16,
        "vocab_size": 400,
        "projection_size": 64,
    },
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 16,
    },
}


def clip_state() -> dict[str, Tensor]:
    """Of a `CLIPModel` by `CLIP_CONFIG`."""
    text, vision = CLIP_CONFIG["text_config"], CLIP_CONFIG["vision_config"]
    d, c, joint = text["hidden_size"], vision["hidden_size"], CLIP_CONFIG["projection_dim"]
    shapes = _layers("text_model", text) | _layers("vision_model", vision) | _text_embeddings(text)
    shapes |= {
        "logit_scale": (),
        "text_projection.weight": (joint, d),
        "visual_projection.weight": (joint, c),
        "vision_model.embeddings.class_embedding": (c,),
        "vision_model.embeddings.patch_embedding.weight": (c, 3, 8, 8),
        "vision_model.embeddings.position_embedding.weight": (17, c),
    }
    for norm, width in (("vision_model.pre_layrnorm", c), ("vision_model.post_layernorm", c)):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return _filled(shapes)


def siglip_state() -> dict[str, Tensor]:
    """Of a `SiglipModel` by `SIGLIP_CONFIG`."""
    text, vision = SIGLIP_CONFIG["text_config"], SIGLIP_CONFIG["vision_config"]
    d, c, inner = text["hidden_size"], vision["hidden_size"], vision["intermediate_size"]
    head = "vision_model.head"
    shapes = _layers("text_model", text) | _layers("vision_model", vision) | _text_embeddings(text)
    shapes |= {"logit_scale": (1,), "logit_bias": (1,), f"{head}.probe": (1, 1, c)}
    shapes |= _linear("text_model.head", d, c) | _linear("vision_model.post_layernorm", None, c)
    shapes |= {
        "vision_model.embeddings.patch_embedding.weight": (c, 3, 16, 16),
        "vision_model.embeddings.patch_embedding.bias": (c,),
        "vision_model.embeddings.position_embedding.weight": (4, c),
        f"{head}.attention.in_proj_weight": (3 * c, c),
        f"{head}.attention.in_proj_bias": (3 * c,),
    }
    shapes |= _linear(f"{head}.attention.out_proj", c, c) | _linear(f"{head}.layernorm", None, c)
    shapes |= _linear(f"{head}.mlp.fc1", c, inner) | _linear(f"{head}.mlp.fc2", inner, c)
    return _filled(shapes)


def images() -> Tensor:
    """Two pictures (2,3,32,32)."""
    waves = [3 * torch.sin(torch.arange(3 * 32 * 32) * step) for step in (0.37, 0.0023)]
    return torch.stack(waves).reshape(2, 3, 32, 32)


def _text_embeddings(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d = text["hidden_size"]
    return _linear("text_model.final_layer_norm", None, d) | {
        "text_model.embeddings.token_embedding.weight": (text["vocab_size"], d),
        "text_model.embeddings.position_embedding.weight": (text["max_position_embeddings"], d),
    }


def _layers(tower: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(config["num_hidden_layers"]):
        layer = f"{tower}.encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{part}", d, d)
        shapes |= _linear(f"{layer}.layer_norm1", None, d) | _linear(f"{layer}.layer_norm2", None, d)
        shapes |= _linear(f"{layer}.mlp.fc1", d, inner) | _linear(f"{layer}.mlp.fc2", inner, d)
    return shapes


def _linear(name: str, inputs: int | None, outputs: int) -> dict[str, tuple[int, ...]]:
    """A linear map, or a norm, which has no inputs of its own."""
    weight = (outputs,) if inputs is None else (outputs, inputs)
    return {f"{name}.weight": weight, f"{name}.bias": (outputs,)}


def _filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Waves, each tensor another one; norms around 1."""
    tensors = {}
    for k, (name, shape) in enumerate(sorted(shapes.items())):
        count = max(1, int(torch.tensor(shape).prod()) if shape else 1)
        wave = torch.sin(torch.arange(count, dtype=torch.float64) * (0.7 + 0.013 * k)).float().reshape(shape)
        is_norm = "norm" in name and name.endswith("weight")
        tensors[name] = 1 + 0.3 * wave if is_norm else 0.2 * wave
    return tensors
