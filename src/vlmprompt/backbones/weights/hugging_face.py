"""The tensors of Hugging Face's `CLIPModel` and `SiglipModel` under the names that open_clip gives them.

The two libraries compute the same: transformers keeps query, key and value maps apart and a projection as a
`Linear`, where open_clip has one matrix of all three and a plain (width, joint width) matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_Tensors = Mapping[str, Tensor]
_LAYER = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)")
_SEPARATE = re.compile(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)")
_BLOCK = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
_BLOCK |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_TIMM_BLOCK = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}
_TEXT = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
_VISION = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # spelt so in transformers
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_TRUNK = {
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "vision_model.post_layernorm": "visual.trunk.norm",
    "vision_model.head.layernorm": "visual.trunk.attn_pool.norm",
    "vision_model.head.attention.out_proj": "visual.trunk.attn_pool.proj",
    "vision_model.head.mlp.fc1": "visual.trunk.attn_pool.mlp.fc1",
    "vision_model.head.mlp.fc2": "visual.trunk.attn_pool.mlp.fc2",
    "text_model.head": "text.text_projection",
}


def clip_tensors(tensors: _Tensors) -> dict[str, Tensor]:
    """Those of a `CLIPModel` as open_clip's `CLIP` calls them; names that neither knows stay as they are."""
    found: dict[str, Tensor] = {}
    for name, tensor in _joined(tensors).items():
        layer = _LAYER.fullmatch(name)
        if layer:
            side = "visual." if layer[1] == "vision_model" else ""
            found[f"{side}transformer.resblocks.{layer[2]}.{_renamed(layer[3], _BLOCK)}"] = tensor
        elif name in _PROJECTIONS:
            found[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif not name.endswith(".position_ids"):
            found[(_TEXT | _VISION).get(name, name)] = tensor
    return found


def siglip_tensors(tensors: _Tensors) -> dict[str, Tensor]:
    """Those of a `SiglipModel` as open_clip's `CustomTextCLIP` over timm's trunk calls them."""
    found: dict[str, Tensor] = {}
    for name, tensor in _joined(tensors).items():
        layer = _LAYER.fullmatch(name)
        if layer and layer[1] == "vision_model":
            inner = layer[3].replace("attn.in_proj_", "attn.qkv.")
            found[f"visual.trunk.blocks.{layer[2]}.{_renamed(inner, _TIMM_BLOCK)}"] = tensor
        elif layer:
            found[f"text.transformer.resblocks.{layer[2]}.{_renamed(layer[3], _BLOCK)}"] = tensor
        elif name in _TEXT:
            found[f"text.{_TEXT[name]}"] = tensor
        elif name == "vision_model.embeddings.position_embedding.weight":
            found["visual.trunk.pos_embed"] = tensor[None]
        elif name == "vision_model.head.probe":
            found["visual.trunk.attn_pool.latent"] = tensor
        elif name.startswith("vision_model.head.attention.in_proj_"):
            kind = name.rpartition("_")[2]
            query, key_value = tensor.split([len(tensor) // 3, len(tensor) // 3 * 2])
            found |= {f"visual.trunk.attn_pool.{p}.{kind}": t for p, t in (("q", query), ("kv", key_value))}
        elif not name.endswith(".position_ids"):
            found[_renamed(name, _TRUNK)] = tensor
    return found


def _joined(tensors: _Tensors) -> dict[str, Tensor]:
    """With the query, key and value maps of each layer in one: `attn.in_proj_weight`, `attn.in_proj_bias`."""
    joined: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part = _SEPARATE.fullmatch(name)
        if part is None:
            joined[name] = tensor
        elif part[2] == "q":
            three = [tensors.get(f"{part[1]}.self_attn.{other}_proj.{part[3]}") for other in "qkv"]
            if all(own is not None for own in three):
                joined[f"{part[1]}.attn.in_proj_{part[3]}"] = torch.cat([own for own in three if own is not None])
    return joined


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """A name whose part before "weight" or "bias" is in the table, by that."""
    stem, _, kind = name.rpartition(".")
    return f"{names[stem]}.{kind}" if stem in names else name
